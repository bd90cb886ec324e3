//! Matrix products on the host, under one reduction contract whatever the shape: every element of the result is a chain of
//! fused multiply-adds over k in ascending order inside leaves of [`LEAF`] (from zero); leaf sums are added in ascending order
//! to the old value or to zero, in the accumulator's type; the total is rounded once to storage.

mod block;
pub(super) mod busy;
mod lanes;
mod matrix;
mod near;
mod pack;
mod panels;
#[cfg(test)]
mod tests;
mod tile;

use super::{BlockMut, Host, Scalar, grid_mut};

pub(super) use lanes::Vectored;
pub use matrix::{Matrix, MatrixMut};
pub use near::{Start, product_near};

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

/// Multiply-adds below which handing work to other threads costs more than it saves; packing an element of b counts as 16.
const HAND_OVER: usize = 1 << 21;
/// Tasks per thread, so that a thread that is held up holds up little.
const TASKS: usize = 8;
/// Fewest rows and columns of a task, unless there are no more.
const FEWEST: [usize; 2] = [192, 256];

/// c (= or +=) a b on all threads.
pub fn product<A, B, C>(host: &Host, a: Matrix<'_, A>, b: Matrix<'_, B>, c: MatrixMut<'_, C>, write: Write)
where
    A: Scalar,
    B: Scalar<Sum = A::Sum>,
    C: Scalar<Sum = A::Sum>,
{
    let ([m, k], n) = (a.size, c.columns);
    if host.threads() == 1 || (m + 16) * n * k < HAND_OVER {
        return product_serial(a, b, &mut BlockMut::new(c.data, [c.rows, n], n), write);
    }
    let [rows, columns] = split([m, n], host.threads() * TASKS);
    host.run(grid_mut(c.data, n, &rows, &columns), |mut block| {
        let (rows, columns) = (block.rows.clone(), block.columns.clone());
        product_serial(a.part(rows, 0..k), b.part(0..k, columns), &mut block, write);
    });
}

/// Bounds of the rows and the columns of about `tasks` blocks, as square as they can be: a block packs its rows and its
/// columns once.
fn split(size: [usize; 2], tasks: usize) -> [Vec<usize>; 2] {
    let mut parts = [1, 1];
    while parts[0] * parts[1] < tasks {
        let room = |i: usize| (size[i] / parts[i] / 2 >= FEWEST[i]).then_some(size[i] / parts[i]);
        match (room(0), room(1)) {
            (None, None) => break,
            (rows, columns) => parts[usize::from(rows < columns)] *= 2,
        }
    }
    let bounds = |i: usize| {
        let part = size[i].div_ceil(parts[i]).next_multiple_of(FEWEST[i]);
        (0..size[i]).step_by(part).chain([size[i]]).collect()
    };
    [bounds(0), bounds(1)]
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
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has what these registers need.
        unsafe { block::product::<<A::Sum as Vectored>::Wide, A, B, C>(a, b, c, write) }
    } else {
        assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), "an x86-64-v3 CPU");
        // SAFETY: as above.
        unsafe { block::product::<<A::Sum as Vectored>::Narrow, A, B, C>(a, b, c, write) }
    }
}
