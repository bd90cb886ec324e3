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

use bytemuck::bytes_of;

use super::launch::Launch;
use super::leaf_sums::LeafTable;
use super::split::rows_per_task;
use super::{Leaves, OpError, expect_dims, expect_dtype};
use crate::device::{Device, Float, Grid, Host, Stream};
use crate::dims;
use crate::tensor::{Element, View, ViewMut};
use crate::with_float;

const STEM: &str = "bias";

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
        Device::Cuda(cuda) => launch_forward(&Launch { op: OP, stem: STEM, cuda }, bias, y)?,
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
        Device::Cuda(cuda) => launch_backward(&Launch { op: OP, stem: STEM, cuda }, dy, leaves, dbias)?,
    }
    Ok(())
}

/// Rows of a forward block.
const BLOCK_ROWS: u32 = 8;
/// Rows of a backward chunk.
const CHUNK_ROWS: u32 = 64;

/// A matrix as the kernels see it: pieces of 8 columns, or single columns where a row has no whole number of pieces.
struct Pieces {
    per_row: u32,
    kernels: [&'static str; 2],
}

impl Pieces {
    fn of(launch: &Launch<'_>, tensor: &'static str, view: View<'_>) -> Result<Self, OpError> {
        launch.expect_bf16(tensor, view)?;
        let columns = view.dims().row_len();
        if columns.is_multiple_of(8) {
            let per_row = launch.pieces_of_row(tensor, view)?;
            return Ok(Self { per_row, kernels: ["bias_forward_bf16", "bias_backward_bf16"] });
        }
        let per_row = launch.count("columns", columns)?;
        Ok(Self { per_row, kernels: ["bias_forward_bf16_any", "bias_backward_bf16_any"] })
    }

    fn grid(&self, along_rows: u32) -> Grid {
        Grid { blocks: [self.per_row.div_ceil(128), along_rows, 1], threads: 128, shared: 0 }
    }
}

fn launch_forward(launch: &Launch<'_>, bias: View<'_>, y: ViewMut<'_>) -> Result<(), OpError> {
    let pieces = Pieces::of(launch, "y", y.view())?;
    let rows = launch.count("rows", y.dims().rows())?;
    let (bias, y) = (launch.start("bias", bias)?, y.address());
    let arguments = [bytes_of(&bias), bytes_of(&y), bytes_of(&rows), bytes_of(&pieces.per_row)];
    launch.run(pieces.kernels[0], pieces.grid(rows.div_ceil(BLOCK_ROWS)), &arguments)
}

fn launch_backward(
    launch: &Launch<'_>,
    dy: View<'_>,
    leaves: &Leaves,
    dbias: ViewMut<'_>,
) -> Result<(), OpError> {
    let pieces = Pieces::of(launch, "dy", dy)?;
    let columns = launch.count("columns", dy.dims().row_len())?;
    for table in LeafTable::all(launch, leaves, CHUNK_ROWS)? {
        let (from, sums) = (dy.address(), table.room(launch, columns as usize)?);
        let arguments = [bytes_of(&from), bytes_of(&sums), bytes_of(&pieces.per_row), bytes_of(&table)];
        launch.run(pieces.kernels[1], pieces.grid(table.chunks() as u32), &arguments)?;
        table.add(launch, "bias_sums_f32", [sums, dbias.address()], columns)?;
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
