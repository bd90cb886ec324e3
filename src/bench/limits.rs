use std::time::Instant;

use serde::Serialize;

use super::BenchError;
use super::kernels::{Clock, Multiplier, matrix, seconds};
use crate::device::{Device, Host, Stream, busy};
use crate::dims;
use crate::ops::bandwidth;
use crate::tensor::{DType, Tensor, View};
use crate::with_float;

/// What the machine can do at most, measured just before a repeat.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Floating-point operations a second: multiply-adds in registers on all threads, of operands in the workload's storage; on a
    /// GPU a product of square bf16 matrices.
    pub flops: f64,
    /// Whose they were.
    pub by: Multiplier,
    /// The workload's own weights read once, by all threads or the whole GPU: bytes a second.
    pub read: f64,
}

/// Rounds of multiply-adds: about a tenth of a second.
const ROUNDS: usize = 20_000_000;
/// Repeats of a GPU's product.
const PRODUCTS: usize = 5;

impl Limits {
    /// Of `device`, with the weights to read, and the side of a GPU's matrices.
    ///
    /// # Errors
    /// When a GPU refuses.
    pub fn measure(
        device: &Device,
        dtype: DType,
        (weights, side): (&[View<'_>], usize),
    ) -> Result<Self, BenchError> {
        match device {
            Device::Host(host) => Ok(Self::of_host(host, dtype, weights)),
            Device::Cuda(_) => Self::of_gpu(&Stream::new(device.clone()), weights, side),
        }
    }

    /// The better of two goes each: foreign load only ever slows.
    fn of_host(host: &Host, dtype: DType, weights: &[View<'_>]) -> Self {
        let (mut flops, mut read) = (0.0, 0.0);
        for _ in 0..2 {
            let start = Instant::now();
            let done = with_float!(dtype, T => busy::multiply_adds::<T>(host, ROUNDS));
            flops = f64::max(flops, done / start.elapsed().as_secs_f64());
            let start = Instant::now();
            weights.iter().for_each(|weight| busy::read(host, weight.host_bytes()));
            read = f64::max(read, bytes(weights) as f64 / start.elapsed().as_secs_f64());
        }
        Self { flops, by: Multiplier::Registers, read }
    }

    fn of_gpu(stream: &Stream, weights: &[View<'_>], side: usize) -> Result<Self, BenchError> {
        let parts = weights.iter().map(|weight| bandwidth::parts(weight.bytes()));
        let mut sums = Tensor::on(stream.device(), DType::U32, dims![N: parts.max().unwrap_or(0)])?;
        let mut read = 0.0;
        for _ in 0..2 {
            let seconds = seconds(stream, |stream| {
                weights.iter().try_for_each(|weight| {
                    let parts = bandwidth::parts(weight.bytes());
                    bandwidth::read(stream, *weight, sums.rows_mut(0..parts))
                })
            })?;
            read = f64::max(read, bytes(weights) as f64 / seconds);
        }
        let product = matrix(&mut Clock::new(stream, 0, (PRODUCTS, 1))?, side)?;
        Ok(Self { flops: product.rate, by: product.by, read })
    }
}

fn bytes(weights: &[View<'_>]) -> usize {
    weights.iter().map(|weight| weight.bytes()).sum()
}
