//! Products with a weight: the only place where tokens meet matrices.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`forward`] | y = x wᵀ | x [N, K], w [M, K], y [N, M] |
//! | [`backward_input`] | dx = dy w | dy [N, M], w [M, K], dx [N, K] |
//! | [`backward_weight`] | dw += dyᵀ x | dy [N, M], x [N, K], dw [M, K] |
//!
//! Views of more than two dimensions count as matrices: rows are the slowest dimension, columns the rest.
//!
//! Reduction contract on the host: every output element is a chain of fused multiply-adds over k inside leaves of [`LEAF`] (from zero), leaf
//! sums added in ascending order to the old value ([`Write::Add`]) or to zero, in the accumulator's type, rounded once to
//! storage. Inside a leaf k ascends; in bf16 it ascends in pairs whose odd step comes first, as the CPU's own instruction has it.
//! Nothing depends on the number of rows, on tiles, or on threads. On a GPU, whose storage is bf16 and whose rows are multiples
//! of 8 elements, `kernels/product.cu` states the order, of which the same holds.

mod launch;
pub(in crate::ops) mod variant;
mod work;

use super::{Leaves, OpError, Write, expect_dims, expect_dtype};
use crate::device::{Device, Host, Matrix, MatrixMut, product};
use crate::dims;
use crate::tensor::{DType, Element, View, ViewMut};
use crate::with_float;

pub use crate::device::LEAF;
pub use work::{backward_input_work, backward_weight_work, forward_work};

/// y (=, +=) x wᵀ. Moves (N K + M K + N M) elements, 2 N M K flops. dtypes: x and w alike, y the same or their accumulator.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn forward(
    stream: &crate::device::Stream,
    x: View<'_>,
    w: View<'_>,
    y: ViewMut<'_>,
    write: Write,
) -> Result<(), OpError> {
    const OP: &str = "product_forward";
    let ((n, k), m) = (matrix(x), matrix(w).0);
    expect_dims(OP, "w", flat(w), dims![N: m, C: k])?;
    expect_dims(OP, "y", flat(y.view()), dims![N: n, C: m])?;
    same_dtype(OP, x, w)?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(x.dtype(), T => {
            let a = Matrix::new(x.host::<T>(), n, k);
            let b = Matrix::new(w.host::<T>(), m, k).transposed();
            into::<T>(OP, host, a, b, (y, write))
        }),
        Device::Cuda(cuda) => {
            expect_dtype(OP, "x", x.dtype(), DType::BF16)?;
            launch::forward(OP, cuda, [x, w], y, write)
        }
    }
}

/// dx (=, +=) dy w. dtypes as in [`forward`].
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn backward_input(
    stream: &crate::device::Stream,
    dy: View<'_>,
    w: View<'_>,
    dx: ViewMut<'_>,
    write: Write,
) -> Result<(), OpError> {
    const OP: &str = "product_backward_input";
    let ((n, m), k) = (matrix(dy), matrix(w).1);
    expect_dims(OP, "w", flat(w), dims![N: m, C: k])?;
    expect_dims(OP, "dx", flat(dx.view()), dims![N: n, C: k])?;
    same_dtype(OP, dy, w)?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(dy.dtype(), T => {
            let a = Matrix::new(dy.host::<T>(), n, m);
            let b = Matrix::new(w.host::<T>(), m, k);
            into::<T>(OP, host, a, b, (dx, write))
        }),
        Device::Cuda(cuda) => {
            expect_dtype(OP, "dy", dy.dtype(), DType::BF16)?;
            launch::backward_input(OP, cuda, [dy, w], dx, write)
        }
    }
}

/// dw += dyᵀ x, leaf by leaf of the packed batch: a sum over tokens. dw has the accumulator's dtype.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn backward_weight(
    stream: &crate::device::Stream,
    dy: View<'_>,
    x: View<'_>,
    leaves: &Leaves,
    mut dw: ViewMut<'_>,
) -> Result<(), OpError> {
    const OP: &str = "product_backward_weight";
    let ((n, m), (rows, k)) = (matrix(dy), matrix(x));
    expect_dims(OP, "dw", flat(dw.view()), dims![N: m, C: k])?;
    if rows != n || leaves.tokens() != n {
        let reason = format!("dy has {n} rows, x {rows}, the leaves {}: all must agree", leaves.tokens());
        return Err(OpError::Argument { op: OP, reason });
    }
    same_dtype(OP, dy, x)?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(dy.dtype(), T => {
            let (a, b) = (Matrix::new(dy.host::<T>(), n, m), Matrix::new(x.host::<T>(), n, k));
            leaves.ranges().filter(|leaf| !leaf.is_empty()).try_for_each(|leaf| {
                let (a, b) = (a.rows(leaf.clone()).transposed(), b.rows(leaf));
                into::<T>(OP, host, a, b, (dw.reborrow(), Write::Add))
            })
        }),
        Device::Cuda(cuda) => {
            expect_dtype(OP, "dy", dy.dtype(), DType::BF16)?;
            launch::backward_weight(OP, cuda, [dy, x], leaves, dw)
        }
    }
}

/// Rows and columns of a view as a matrix.
fn matrix(x: View<'_>) -> (usize, usize) {
    (x.dims().rows(), x.dims().row_len())
}

fn flat(x: View<'_>) -> crate::tensor::Dims {
    let (n, k) = matrix(x);
    dims![N: n, C: k]
}

fn same_dtype(op: &'static str, a: View<'_>, b: View<'_>) -> Result<(), OpError> {
    super::expect_dtype(op, "second operand", b.dtype(), a.dtype())
}

/// Picks the output's storage: the operands' own, or their accumulator.
fn into<T: Element>(
    op: &'static str,
    host: &Host,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    (c, write): (ViewMut<'_>, Write),
) -> Result<(), OpError> {
    let (rows, columns) = matrix(c.view());
    if c.dtype() == T::DTYPE {
        product(host, a, b, MatrixMut::new(c.host_mut::<T>(), rows, columns), write);
    } else {
        super::expect_dtype(op, "output", c.dtype(), T::DTYPE.accumulator())?;
        product(host, a, b, MatrixMut::new(c.host_mut::<T::Acc>(), rows, columns), write);
    }
    Ok(())
}
