use super::lanes::Lanes;
use super::{LEAF, Matrix, Vectored, Write, product_serial};
use crate::device::{BlockMut, Float, Scalar};

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
    write: Write,
}

/// c (= or +=) a b on the calling thread with the same bits as [`product`](super::product), for operands that lie in a near
/// cache already: nothing is packed. The rows of b and c are contiguous; a may have any strides.
pub fn product_near<S>(a: Matrix<'_, S>, b: Matrix<'_, S>, c: &mut BlockMut<'_, S>, write: Write)
where
    S: Float + Vectored + Scalar<Sum = S>,
{
    let [m, n] = [a.size[0], b.size[1]];
    assert!(a.size[1] == b.size[0], "a has {} columns, b {} rows", a.size[1], b.size[0]);
    assert_eq!([m, n], [c.rows.len(), c.columns.len()], "the size of c");
    let wide =
        if is_x86_feature_detected!("avx512f") { <S::Wide as Lanes>::N } else { <S::Narrow as Lanes>::N };
    let whole = n - n % wide;
    if a.size[1] == 0 || a.size[1] > LEAF || b.stride[1] != 1 || whole == 0 || m == 0 {
        return product_serial(a, b, c, write);
    }
    if whole < n {
        let rest = b.part(0..b.size[0], whole..n);
        product_serial(a, rest, &mut c.columns_from(whole), write);
    }
    let (to, c_stride) = c.origin();
    let place = Place {
        a: a.pointer(0, 0),
        a_stride: a.stride,
        b: b.pointer(0, 0),
        b_stride: b.stride[0],
        c: to,
        c_stride,
        depth: a.size[1],
        write,
    };
    // SAFETY: the CPU has what the registers need; the matrices reach m, n and the depth, and c is ours alone.
    unsafe {
        if wide == <S::Wide as Lanes>::N {
            strips::<S::Wide>(place, [m, whole]);
        } else {
            strips::<S::Narrow>(place, [m, whole]);
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
                    a: all.a.add(rows.start * all.a_stride[0]),
                    b: all.b.add(column),
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
    let Place { mut a, a_stride, mut b, b_stride, c, c_stride, depth, write } = place;
    // SAFETY: the caller's; step p reads M numbers of a and V registers of b.
    unsafe {
        let zero = L::splat(L::Sum::ZERO);
        let mut sums = [[zero; V]; M];
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
        let one = L::splat(L::Sum::ONE);
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = c.add(r * c_stride + v * L::N);
                let old = if write == Write::Add { L::load(to) } else { zero };
                // old + sum: a product with one is exact.
                old.fma(sum, one).store(to);
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

    /// Both products on a block inside guard values.
    fn check([m, n, k]: [usize; 3], a_stride: [usize; 2], write: Write) {
        let reach = m * a_stride[0] + k * a_stride[1];
        let (a, b, c) = (numbers(1, reach), numbers(2, k * (n + 5)), numbers(3, m * (n + 3)));
        let a = Matrix::strided(&a, [m, k], a_stride);
        let b = Matrix::strided(&b, [k, n], [n + 5, 1]);
        let [mut near, mut packed] = [c.clone(), c];
        product_near(a, b, &mut BlockMut::new(&mut near, [m, n], n + 3), write);
        product_serial(a, b, &mut BlockMut::new(&mut packed, [m, n], n + 3), write);
        let bits = |c: &[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(&near) == bits(&packed), "{m} x {n} x {k}, {a_stride:?}, {write:?}");
    }

    #[test]
    fn near_operands_give_the_bits_of_packed_ones() {
        for m in [1, 2, 12, 13, 41] {
            for n in [1, 7, 16, 31, 32, 48, 65] {
                for (k, write) in [(1, Write::Set), (3, Write::Add), (64, Write::Set), (LEAF + 1, Write::Add)]
                {
                    check([m, n, k], [k, 1], write);
                    check([m, n, k], [1, m + 2], write);
                }
            }
        }
    }
}
