use super::lanes::Lanes;
use super::{Matrix, Vectored};
use crate::device::{BlockMut, Float, Scalar};

/// Where the chains of a product start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At zero: c = a b.
    Zero,
    /// At the output's old value, as if its terms were the first of the chain: one product in several parts of k.
    Old,
}

/// Where a strip of a product lies. a is read one number at a time, b and c by registers.
#[derive(Clone, Copy)]
pub struct Place<S> {
    a: *const S,
    a_stride: [usize; 2],
    b: *const S,
    b_stride: usize,
    c: *mut S,
    c_stride: usize,
    depth: usize,
    start: Start,
}

/// c = a b, or c continued by a b, on the calling thread, for operands that lie in a near cache already: nothing is packed. Every
/// element is one chain of fused multiply-adds over ascending k, whatever the size. The rows of b and c are contiguous; a may
/// have any strides.
pub fn product_near<S>(a: Matrix<'_, S>, b: Matrix<'_, S>, c: &mut BlockMut<'_, S>, start: Start)
where
    S: Float + Scalar<Sum = S>,
{
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has what these registers need.
        unsafe { product_in::<<S as Vectored>::Wide, S>(a, b, c, start) }
    } else {
        assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), "an x86-64-v3 CPU");
        // SAFETY: as above.
        unsafe { product_in::<<S as Vectored>::Narrow, S>(a, b, c, start) }
    }
}

/// # Safety
/// The CPU has the register's instructions.
unsafe fn product_in<L: Lanes<Sum = S>, S>(
    a: Matrix<'_, S>,
    b: Matrix<'_, S>,
    c: &mut BlockMut<'_, S>,
    start: Start,
) where
    S: Float + Scalar<Sum = S>,
{
    let [m, n] = [a.size[0], b.size[1]];
    assert!(a.size[1] == b.size[0], "a has {} columns, b {} rows", a.size[1], b.size[0]);
    assert!([m, n] == [c.rows.len(), c.columns.len()] && b.stride[1] == 1, "the size of c, the rows of b");
    let whole = n - n % L::N;
    columns_one_by_one(a, b, (c, whole), start);
    let (to, c_stride) = c.origin();
    let (a_stride, b_stride, depth) = (a.stride, b.stride[0], a.size[1]);
    let (from_a, from_b) = (a.pointer(0, 0), b.pointer(0, 0));
    let place = Place { a: from_a, a_stride, b: from_b, b_stride, c: to, c_stride, depth, start };
    // SAFETY: the matrices reach m, n and the depth, and c is ours alone; the rest is the caller's.
    unsafe { strips::<L>(place, [m, whole]) }
}

/// The columns from `first` on, which fill no register.
fn columns_one_by_one<S>(
    a: Matrix<'_, S>,
    b: Matrix<'_, S>,
    (c, first): (&mut BlockMut<'_, S>, usize),
    start: Start,
) where
    S: Float + Scalar<Sum = S>,
{
    for j in first..b.size[1] {
        for i in 0..a.size[0] {
            let c = &mut c.row(i)[j];
            let old = if start == Start::Old { *c } else { S::ZERO };
            *c = (0..a.size[1]).fold(old, |sum, p| a.at(i, p).fma(b.at(p, j), sum));
        }
    }
}

/// # Safety
/// The CPU has the register's instructions, a strip of `m` rows and `n` columns can be read and written, and `n` is a multiple
/// of the register's lanes.
unsafe fn strips<L: Lanes>(all: Place<L::Sum>, [m, n]: [usize; 2]) {
    let parts = m.div_ceil(L::ROWS);
    for part in 0..parts {
        let rows = m * part / parts..m * (part + 1) / parts;
        for column in (0..n).step_by(2 * L::N) {
            // SAFETY: the offsets stay inside the matrices.
            unsafe {
                let place = Place {
                    a: all.a.wrapping_add(rows.start * all.a_stride[0]),
                    b: all.b.wrapping_add(column),
                    c: all.c.add(rows.start * all.c_stride + column),
                    ..all
                };
                L::near(rows.len(), (n - column).min(2 * L::N), place);
            }
        }
    }
}

/// A strip of `M` rows and `V` registers of columns.
///
/// # Safety
/// As for [`strips`].
#[inline(always)]
pub(super) unsafe fn body<L: Lanes, const M: usize, const V: usize>(place: Place<L::Sum>) {
    let Place { mut a, a_stride, mut b, b_stride, c, c_stride, depth, start } = place;
    // SAFETY: the caller's; step p reads M numbers of a and V registers of b.
    unsafe {
        let mut sums = [[L::splat(L::Sum::ZERO); V]; M];
        if start == Start::Old {
            for (r, sums) in sums.iter_mut().enumerate() {
                *sums = std::array::from_fn(|v| L::load(c.add(r * c_stride + v * L::N)));
            }
        }
        for _ in 0..depth {
            let row: [L; V] = std::array::from_fn(|v| L::load(b.add(v * L::N)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = L::splat(*a.add(r * a_stride[0]));
                for (sum, y) in sums.iter_mut().zip(row) {
                    *sum = sum.fma(x, y);
                }
            }
            (a, b) = (a.wrapping_add(a_stride[1]), b.wrapping_add(b_stride));
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                sum.store(c.add(r * c_stride + v * L::N));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: usize, count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    /// A block inside guard values against chains written out.
    fn check([m, n, k]: [usize; 3], a_stride: [usize; 2], start: Start) {
        let reach = m * a_stride[0] + k * a_stride[1];
        let (a, b, old) = (numbers(1, reach), numbers(2, k * (n + 5)), numbers(3, m * (n + 3)));
        let mut plain = old.clone();
        let (a, b) = (Matrix::strided(&a, [m, k], a_stride), Matrix::strided(&b, [k, n], [n + 5, 1]));
        for i in 0..m {
            for j in 0..n {
                let c = &mut plain[i * (n + 3) + j];
                let first = if start == Start::Old { *c } else { 0.0 };
                *c = (0..k).fold(first, |sum, p| a.at(i, p).mul_add(b.at(p, j), sum));
            }
        }
        let bits = |c: &[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let mut got = old.clone();
        product_near(a, b, &mut BlockMut::new(&mut got, [m, n], n + 3), start);
        assert!(bits(&got) == bits(&plain), "{m} x {n} x {k}, {a_stride:?}, {start:?}");
        let mut narrow = old;
        // SAFETY: the crate is compiled for CPUs with AVX2 and FMA.
        unsafe {
            let mut block = BlockMut::new(&mut narrow, [m, n], n + 3);
            product_in::<<f32 as Vectored>::Narrow, f32>(a, b, &mut block, start);
        }
        assert!(bits(&narrow) == bits(&plain), "AVX2: {m} x {n} x {k}, {a_stride:?}, {start:?}");
    }

    #[test]
    fn every_element_is_one_chain() {
        for m in [1, 2, 12, 13, 41] {
            for n in [1, 7, 16, 31, 32, 48, 65] {
                for (k, start) in [(0, Start::Zero), (1, Start::Zero), (3, Start::Old), (600, Start::Old)] {
                    check([m, n, k], [k.max(1), 1], start);
                    check([m, n, k], [1, m + 2], start);
                }
            }
        }
    }

    #[test]
    fn a_product_in_parts_has_the_bits_of_the_whole() {
        let (a, b) = (numbers(1, 5 * 70), numbers(2, 70 * 48));
        let (a, b) = (Matrix::new(&a, 5, 70), Matrix::new(&b, 70, 48));
        let run = |parts: &[usize]| {
            let (mut c, mut start) = (vec![f32::NAN; 5 * 48], Start::Zero);
            for part in parts.windows(2) {
                let (a, b) = (a.part(0..5, part[0]..part[1]), b.part(part[0]..part[1], 0..48));
                product_near(a, b, &mut BlockMut::new(&mut c, [5, 48], 48), start);
                start = Start::Old;
            }
            c
        };
        assert_eq!(run(&[0, 70]), run(&[0, 1, 33, 64, 70]));
    }
}
