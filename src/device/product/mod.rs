//! Matrix products on the host, under one reduction contract whatever the shape: every element of the result is a chain of
//! fused multiply-adds over k in ascending order inside leaves of [`LEAF`] (from zero); leaf sums are added in ascending order
//! to the old value or to zero, in the accumulator's type; the total is rounded once to storage.

mod matrix;

use super::{BlockMut, Float, Host, Scalar, grid_mut};

pub use matrix::{Matrix, MatrixMut};

/// Length of the runs of k that are summed from zero before they are added up.
pub const LEAF: usize = 512;

/// What happens to the output's old value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Overwritten.
    Set,
    /// Added to: the sum starts from it.
    Add,
}

/// c (= or +=) a b on all threads.
pub fn product<A, B, C>(host: &Host, a: Matrix<'_, A>, b: Matrix<'_, B>, c: MatrixMut<'_, C>, write: Write)
where
    A: Scalar,
    B: Scalar<Sum = A::Sum>,
    C: Scalar<Sum = A::Sum>,
{
    if c.data.is_empty() {
        return;
    }
    let bounds: Vec<usize> = (0..=c.rows).collect();
    let blocks = grid_mut(c.data, c.columns, &bounds, &[0, c.columns]);
    host.run(blocks, |mut block| {
        let a = a.rows(block.rows.clone());
        product_serial(a, b, &mut block, write);
    });
}

/// c (= or +=) a b on the calling thread, with the same bits as [`product`].
pub fn product_serial<A, B, C>(a: Matrix<'_, A>, b: Matrix<'_, B>, c: &mut BlockMut<'_, C>, write: Write)
where
    A: Scalar,
    B: Scalar<Sum = A::Sum>,
    C: Scalar<Sum = A::Sum>,
{
    assert!(a.size[1] == b.size[0], "a has {} columns, b {} rows", a.size[1], b.size[0]);
    assert_eq!([a.size[0], b.size[1]], [c.rows.len(), c.columns.len()], "the size of c");
    for i in 0..a.size[0] {
        for (j, c) in c.row(i).iter_mut().enumerate() {
            *c = element(a, b, [i, j], (*c, write));
        }
    }
}

/// One element in the contract's order: the plain form that every faster body must equal bit for bit.
fn element<A, B, C>(a: Matrix<'_, A>, b: Matrix<'_, B>, [i, j]: [usize; 2], (old, write): (C, Write)) -> C
where
    A: Scalar,
    B: Scalar<Sum = A::Sum>,
    C: Scalar<Sum = A::Sum>,
{
    let k = a.size[1];
    let mut total = if write == Write::Add { old.widen() } else { A::Sum::ZERO };
    for leaf in (0..k).step_by(LEAF) {
        let mut sum = A::Sum::ZERO;
        for p in leaf..k.min(leaf + LEAF) {
            sum = a.at(i, p).widen().fma(b.at(p, j).widen(), sum);
        }
        total += sum;
    }
    C::narrow(total)
}
