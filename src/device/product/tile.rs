use super::kernel::{Kernel, Sum};
use super::lanes::Lanes;
use crate::device::Float;

/// What a tile's sums start from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// Zero.
    Fresh,
    /// What the output holds: the sums over the steps before.
    Held,
}

/// Rows r of a tile and `V` registers of columns stay in registers over one leaf: out (=, +=) sum over p of
/// a[p][r] b[p][column], each element the kernel's chain in ascending p, whatever `M` and `V`.
///
/// # Safety
/// The CPU has the kernel's instructions.
#[inline(always)]
pub(super) unsafe fn body<K: Kernel, const M: usize, const V: usize>(
    a: &[K::Word],
    b: &[K::Word],
    (out, held): (&mut [Sum<K>], Sums),
) {
    let (depth, lanes) = (a.len() / M, K::Register::N);
    assert!(b.len() == depth * V * lanes && out.len() == M * V * lanes, "a tile's packed operands");
    // SAFETY: the caller vouches for the instructions. Step p reads M words of `a` and V registers of `b`, and there are
    // `depth` of each; a word is as large as a sum; the registers stored fill `out`.
    unsafe {
        let mut sums = [[K::Register::splat(Sum::<K>::ZERO); V]; M];
        if held == Sums::Held {
            for (i, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                *sum = K::Register::load(out.as_ptr().add(i * lanes));
            }
        }
        let (mut a, mut b) = (a.as_ptr().cast::<Sum<K>>(), b.as_ptr().cast::<Sum<K>>());
        for _ in 0..depth {
            let row: [K::Register; V] = std::array::from_fn(|v| K::Register::load(b.add(v * lanes)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = K::Register::splat(*a.add(r));
                for (sum, y) in sums.iter_mut().zip(row) {
                    *sum = K::multiply(*sum, x, y);
                }
            }
            (a, b) = (a.add(M), b.add(V * lanes));
        }
        for (i, sum) in sums.as_flattened().iter().enumerate() {
            sum.store(out.as_mut_ptr().add(i * lanes));
        }
    }
}
