//! Matrix products on the host, under one reduction contract whatever the shape: every element of the result is a chain of
//! fused multiply-adds over k inside leaves of [`LEAF`] (from zero); leaf sums are added in ascending order to the old value or
//! to zero, in the accumulator's type; the total is rounded once to storage.
//!
//! Operands of f32 and f64 are taken in ascending k. Operands of bf16 are taken in ascending pairs of k, the odd step of a pair
//! before the even one, each product exact and each sum rounded to f32: this is what `vdpbf16ps` does (held by a test on the CPU
//! at hand). That instruction takes subnormal numbers for zeros, in its operands and after each of the two sums; kernels
//! for CPUs without it keep them, so that the two differ only where a number below 2^-126 takes part.

mod block;
pub(super) mod busy;
mod kernel;
mod lanes;
mod matrix;
mod near;
mod pack;
mod panels;
#[cfg(test)]
mod tests;
mod tile;

use super::{BlockMut, Host, Scalar, grid_mut};

use kernel::Kernel;
pub(super) use kernel::Kernels;
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
pub fn product<T, C>(host: &Host, a: Matrix<'_, T>, b: Matrix<'_, T>, c: MatrixMut<'_, C>, write: Write)
where
    T: Scalar,
    C: Scalar<Sum = T::Sum>,
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
pub fn product_serial<T, C>(a: Matrix<'_, T>, b: Matrix<'_, T>, c: &mut BlockMut<'_, C>, write: Write)
where
    T: Scalar,
    C: Scalar<Sum = T::Sum>,
{
    assert!(a.size[1] == b.size[0], "a has {} columns, b {} rows", a.size[1], b.size[0]);
    assert_eq!([a.size[0], b.size[1]], [c.rows.len(), c.columns.len()], "the size of c");
    if T::Best::runs() {
        // SAFETY: the CPU runs the kernel.
        unsafe { block::product::<T::Best, C>(a, b, c, write) }
    } else if T::Wide::runs() {
        // SAFETY: the CPU runs the kernel.
        unsafe { block::product::<T::Wide, C>(a, b, c, write) }
    } else {
        assert!(T::Narrow::runs(), "an x86-64-v3 CPU");
        // SAFETY: the CPU runs the kernel.
        unsafe { block::product::<T::Narrow, C>(a, b, c, write) }
    }
}
