//! Sum of the squares of a gradient, or of weights, the same bits whatever the threads.
//!
//! g of any shape and floating-point dtype, read once. Order: chunks of [`CHUNK`] elements; in a chunk eight f64 lanes, lane l
//! taking elements l, l + 8, ... ascending, then added ascending; chunks added ascending.

use super::OpError;
use crate::device::{Device, Float, Host, Stream};
use crate::tensor::{Element, View};

/// Elements summed from zero before their sum is added.
pub const CHUNK: usize = 1 << 16;
const LANES: usize = 8;

/// The sum of g². Not finite if an element is not.
///
/// # Errors
/// When the device refuses.
pub fn square_sum(stream: &Stream, g: View<'_>) -> Result<f64, OpError> {
    match stream.launch("grad_norm_square_sum") {
        Device::Host(host) => Ok(crate::with_float!(g.dtype(), T => chunks(host, g.host::<T>()))),
        Device::Cuda(_) => return Err(OpError::NoKernel { op: "grad_norm_square_sum" }),
    }
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
