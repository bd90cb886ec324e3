//! Benchmarks: one optimizer step and cached decoding, each beside what the machine can do at most, measured in the same run, and
//! interleaved with peers that speak the same protocol (`benches/reference`). The result is a record that says where it came from.

mod computer;
mod decode;
mod kernels;
mod limits;
mod machine;
mod peer;
mod record;
mod run;
mod selftest;
mod train_step;

pub use computer::{Answers, Computer};
pub use decode::{Decode, DecodeShape};
pub use kernels::{
    Beside, Bound, CaseRecord, Ceilings, Event, KernelOptions, KernelShapes, KernelsRecord, Matrix, Measured,
    Multiplier, Outcome, Presence, Rate, Spread, Theirs, kernels,
};
pub use limits::Limits;
pub use machine::{Machine, Program};
pub use record::{Middle, PeerRecord, Record, Repeat};
pub use run::{Options, Workload, run};
pub use selftest::{Breach, Effort, Exact, Finding, Fit, SelftestOptions, Verdict, fit, selftest};
pub use train_step::{TrainShape, TrainStep};

use crate::device::{Device, DeviceError};
use crate::ops::OpError;
use crate::optimizer::OptimizerError;
use crate::rollout::RolloutError;
use crate::tensor::{Arena, ArenaError};

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Memory does not hold the shape.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// An operator refused.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The optimizer refused.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// Sampling stopped.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A result that no correct run has.
    #[error("{what}: {reason}")]
    Wrong {
        /// Which benchmark.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A peer did not keep to the protocol of `benches/reference`.
    #[error("peer `{command}`: {reason}")]
    Peer {
        /// How it was started.
        command: String,
        /// What went wrong.
        reason: String,
    },
}

impl BenchError {
    /// Whether memory does not hold what was asked for.
    fn is_memory(&self) -> bool {
        let device = |error: &DeviceError| matches!(error, DeviceError::Memory { .. });
        match self {
            Self::Arena(ArenaError::Refused { .. } | ArenaError::Full { .. }) => true,
            Self::Arena(ArenaError::Device(error))
            | Self::Op(OpError::Device(error))
            | Self::Device(error) => device(error),
            _ => false,
        }
    }
}

/// One optimizer step of `shape` on `device`, measured as `options` say; `watch` hears every repeat and whose it was.
///
/// # Errors
/// When memory does not hold the shape, an operator refuses, or a peer fails.
pub fn train_step(
    device: &Device,
    shape: TrainShape,
    options: &Options,
    watch: &mut dyn FnMut(&str, &Repeat),
) -> Result<Record, BenchError> {
    run(&mut TrainStep::new(device, shape)?, options, watch)
}

/// Cached decoding of `shape` on `device`, measured as `options` say; `watch` hears every repeat and whose it was.
///
/// # Errors
/// As for [`train_step`].
pub fn decode(
    device: &Device,
    shape: DecodeShape,
    options: &Options,
    watch: &mut dyn FnMut(&str, &Repeat),
) -> Result<Record, BenchError> {
    run(&mut Decode::new(device, shape)?, options, watch)
}

/// Runs a constructor twice: over an arena that counts, then over one of exactly that size.
fn carve<T>(device: &Device, build: impl Fn(&mut Arena) -> Result<T, ArenaError>) -> Result<T, ArenaError> {
    let mut plan = Arena::planned("bench");
    build(&mut plan)?;
    build(&mut Arena::sized("bench", device, plan.peak())?)
}

/// Token ids that both sides can make: the i-th is (i * 2654435761 mod 2^32) mod V.
fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocabulary as u32).collect()
}
