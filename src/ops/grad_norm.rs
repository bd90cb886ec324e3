//! Sum of the squares of a gradient, or of weights, the same bits whatever the threads.
//!
//! g of any shape and floating-point dtype, read once. Order: chunks of [`CHUNK`] elements; in a chunk eight f64 lanes, lane l
//! taking elements l, l + 8, ... ascending, then added ascending; chunks added ascending. On CUDA the same chunks in f64, in the
//! order that the kernel states.

use bytemuck::{bytes_of, cast_slice_mut};

use super::OpError;
use super::launch::Launch;
use super::work::{Work, of};
use crate::device::{Device, DeviceError, Float, Grid, Host, Stream};
use crate::tensor::{DType, Element, View};

/// Elements summed from zero before their sum is added.
pub const CHUNK: usize = 1 << 16;
const LANES: usize = 8;
const OP: &str = "grad_norm_square_sum";

/// [`square_sum`]'s, of `count` elements.
pub fn work(count: usize, dtype: DType) -> Work {
    Work::moving(of(dtype, count))
}

/// The sum of g². Not finite if an element is not.
///
/// # Errors
/// When the device refuses, or work before this failed: on CUDA the sum is waited for.
pub fn square_sum(stream: &Stream, g: View<'_>) -> Result<f64, OpError> {
    Ok(square_sums(stream, &[g])?[0])
}

/// The sum of squares of each tensor: on CUDA all of them are waited for once.
///
/// # Errors
/// As [`square_sum`].
pub fn square_sums(stream: &Stream, all: &[View<'_>]) -> Result<Vec<f64>, OpError> {
    match stream.launch(OP) {
        Device::Host(host) => {
            let sum = |g: &View<'_>| crate::with_float!(g.dtype(), T => chunks(host, g.host::<T>()));
            Ok(all.iter().map(sum).collect())
        }
        Device::Cuda(cuda) => on_cuda(&Launch { op: OP, stem: "grad_norm", cuda }, all),
    }
}

/// Scratch: all sums, then the chunks' sums of one tensor at a time.
fn on_cuda(launch: &Launch<'_>, all: &[View<'_>]) -> Result<Vec<f64>, OpError> {
    let most = all.iter().map(|g| g.dims().count().div_ceil(CHUNK)).max().unwrap_or(0).max(1);
    let sums = launch.cuda.scratch((all.len() + most) * size_of::<f64>())?;
    let (chunk_sums, counter) = (sums.offset(all.len() * size_of::<f64>()), launch.cuda.tickets(1)?);
    for (i, g) in all.iter().enumerate() {
        let name = match g.dtype() {
            DType::BF16 => "grad_norm_square_sum_bf16",
            DType::F32 => "grad_norm_square_sum_f32",
            other => return Err(launch.refuse(format!("g is {other:?}: there are kernels for BF16 and F32"))),
        };
        let (at, sum) = (launch.start("g", *g)?, sums.offset(i * size_of::<f64>()));
        let (count, chunks) = (g.dims().count() as u64, g.dims().count().div_ceil(CHUNK));
        let arguments =
            [bytes_of(&at), bytes_of(&count), bytes_of(&chunk_sums), bytes_of(&sum), bytes_of(&counter)];
        // A tensor without elements has a block, too, which writes its sum: 0.
        launch.run(name, Grid::row(chunks.max(1), 256), &arguments)?;
    }
    let mut totals = vec![0_f64; all.len()];
    launch.cuda.driver().download(sums, cast_slice_mut(&mut totals)).map_err(DeviceError::from)?;
    Ok(totals)
}

fn chunks<T: Element>(host: &Host, g: &[T]) -> f64 {
    let mut sums = vec![0.0; g.len().div_ceil(CHUNK)];
    host.chunks_mut(&mut sums, 1, |i, sum| sum[0] = chunk(&g[i * CHUNK..g.len().min((i + 1) * CHUNK)]));
    sums.into_iter().fold(0.0, |total, sum| total + sum)
}

fn chunk<T: Element>(g: &[T]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (whole, rest) = g.as_chunks::<LANES>();
    for g in whole {
        for l in 0..LANES {
            let x = g[l].load().to_f64();
            lanes[l] = x.mul_add(x, lanes[l]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        let x = x.load().to_f64();
        *lane = x.mul_add(x, *lane);
    }
    lanes.into_iter().fold(0.0, |total, sum| total + sum)
}
