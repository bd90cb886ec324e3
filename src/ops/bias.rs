//! One number per column, added to every row.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`forward`] | y += bias | bias [M], y [N, M] |
//! | [`backward`] | dbias += Σ dy over the rows | dy [N, M], dbias [M] |
//!
//! Views of more than two dimensions count as matrices: rows are the slowest dimension, columns the rest. bias and dbias have the
//! accumulator's dtype. Order of sums: over tokens, each leaf in ascending order from zero, leaf sums added in ascending order onto
//! dbias's old value.

use super::split::rows_per_task;
use super::{Leaves, OpError, expect_dims, expect_dtype};
use crate::device::{Device, Float, Host, Stream};
use crate::dims;
use crate::tensor::{Element, View, ViewMut};
use crate::with_float;

/// y += bias, rounded once to y's dtype. Moves 2 N M elements.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn forward(stream: &Stream, bias: View<'_>, y: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "bias_forward";
    expect_dims(OP, "bias", bias.dims(), dims![C: y.dims().row_len()])?;
    expect_dtype(OP, "bias", bias.dtype(), y.dtype().accumulator())?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(y.dtype(), T => add::<T>(host, bias.host(), y.host_mut())),
        Device::Cuda(_) => return Err(OpError::NoKernel { op: OP }),
    }
    Ok(())
}

/// dbias (`+=`): the sum of dy's rows. Moves N M elements.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn backward(stream: &Stream, dy: View<'_>, leaves: &Leaves, dbias: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "bias_backward";
    expect_dims(OP, "dbias", dbias.dims(), dims![C: dy.dims().row_len()])?;
    expect_dtype(OP, "dbias", dbias.dtype(), dy.dtype().accumulator())?;
    if leaves.tokens() != dy.dims().rows() {
        let reason =
            format!("dy has {} rows, the leaves {}: both must agree", dy.dims().rows(), leaves.tokens());
        return Err(OpError::Argument { op: OP, reason });
    }
    match stream.launch(OP) {
        Device::Host(host) => with_float!(dy.dtype(), T => {
            sum_rows::<T>(host, dy.host(), leaves, dbias.host_mut());
        }),
        Device::Cuda(_) => return Err(OpError::NoKernel { op: OP }),
    }
    Ok(())
}

fn add<T: Element>(host: &Host, bias: &[T::Acc], y: &mut [T]) {
    let m = bias.len().max(1);
    host.chunks_mut(y, rows_per_task(m) * m, |_, y| {
        for y in y.chunks_mut(m) {
            y.iter_mut().zip(bias).for_each(|(y, bias)| *y = T::store(y.load() + *bias));
        }
    });
}

/// Each task owns some columns and walks every row, so that the order over tokens is the contract's.
fn sum_rows<T: Element>(host: &Host, dy: &[T], leaves: &Leaves, dbias: &mut [T::Acc]) {
    let m = dbias.len();
    let width = m.div_ceil(host.threads()).next_multiple_of(16);
    host.chunks_mut(dbias, width, |task, dbias| {
        let mut sums = vec![T::Acc::ZERO; dbias.len()];
        for leaf in leaves.ranges() {
            sums.fill(T::Acc::ZERO);
            for n in leaf {
                let dy = &dy[n * m + task * width..][..sums.len()];
                sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy.load());
            }
            dbias.iter_mut().zip(&sums).for_each(|(total, sum)| *total += *sum);
        }
    });
}
