use std::time::Instant;

use serde::Serialize;

use crate::device::{Device, busy};
use crate::tensor::DType;
use crate::with_float;

/// What the machine can do at most, measured just before a repeat.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Multiply-adds in registers on all threads, of operands in the workload's storage: floating-point operations a second.
    pub flops: f64,
    /// The workload's own weights read once by all threads: bytes a second.
    pub read: f64,
}

/// Rounds of multiply-adds: about a tenth of a second.
const ROUNDS: usize = 20_000_000;

impl Limits {
    /// The better of two goes each: foreign load only ever slows.
    pub fn measure(device: &Device, dtype: DType, weights: &[&[u8]]) -> Self {
        let Device::Host(host) = device else { return Self { flops: f64::NAN, read: f64::NAN } };
        let bytes: usize = weights.iter().map(|part| part.len()).sum();
        let (mut flops, mut read) = (0.0, 0.0);
        for _ in 0..2 {
            let start = Instant::now();
            let done = with_float!(dtype, T => busy::multiply_adds::<T>(host, ROUNDS));
            flops = f64::max(flops, done / start.elapsed().as_secs_f64());
            let start = Instant::now();
            weights.iter().for_each(|part| busy::read(host, part));
            read = f64::max(read, bytes as f64 / start.elapsed().as_secs_f64());
        }
        Self { flops, read }
    }
}
