use super::lanes::Lanes;

/// What a tile's sums start from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// Zero.
    Fresh,
    /// What the output holds: the sums over the steps before.
    Held,
}

/// Rows r of a tile and `V` registers of columns stay in registers over one leaf: out (=, +=) sum over p of
/// a[p][r] b[p][column], a chain of fused multiply-adds in ascending p for each element, whatever `M` and `V`.
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
pub(super) unsafe fn body<L: Lanes, const M: usize, const V: usize>(
    a: &[L::Sum],
    b: &[L::Sum],
    (out, held): (&mut [L::Sum], Sums),
) {
    let depth = a.len() / M;
    assert!(b.len() == depth * V * L::N && out.len() == M * V * L::N, "a tile's packed operands");
    // SAFETY: the caller vouches for the instructions. Step p reads M numbers of `a` and V registers of `b`, and there are
    // `depth` of each; the registers stored fill `out`.
    unsafe {
        let mut sums = [[L::splat(crate::device::Float::from_f64(0.0)); V]; M];
        if held == Sums::Held {
            for (i, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                *sum = L::load(out.as_ptr().add(i * L::N));
            }
        }
        let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
        for _ in 0..depth {
            let row: [L; V] = std::array::from_fn(|v| L::load(b.add(v * L::N)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = L::splat(*a.add(r));
                for (sum, y) in sums.iter_mut().zip(row) {
                    *sum = sum.fma(x, y);
                }
            }
            (a, b) = (a.add(M), b.add(V * L::N));
        }
        for (i, sum) in sums.as_flattened().iter().enumerate() {
            sum.store(out.as_mut_ptr().add(i * L::N));
        }
    }
}
