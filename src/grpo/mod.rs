//! From rewards to the loss: advantages relative to the group, packing with one weight per token, loss variants.

mod advantage;
mod batch;
mod config;
mod evaluate;
mod loss;
mod reward_kl;

use crate::device::DeviceError;
use crate::ops::OpError;

pub use advantage::{Advantage, AdvantageConfig, Estimator, GroupAdvantages, Life, Rewarded, advantages};
pub use batch::{
    Counts, Example, Group, Packed, Scored, Sharing, Stored, Targets, TrainBatch, pack, pack_examples,
};
pub use config::{DeadGroups, LossConfig};
pub use evaluate::{Measured, evaluate, supervised};
pub use loss::{Loss, Variant, sequence_mean, sum_over_constant, token_mean};
pub use reward_kl::RewardKl;

/// Refuses the first setting that does not fit, of (name, value, whether it fits, what it must be).
fn refuse(settings: &[(&'static str, f64, bool, &'static str)]) -> Result<(), GrpoError> {
    match settings.iter().find(|setting| !setting.2) {
        None => Ok(()),
        Some(&(setting, value, _, range)) => Err(GrpoError::Setting { setting, value, range }),
    }
}

/// Why a batch or a loss could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GrpoError {
    /// An operator refused its arguments.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A setting is out of range.
    #[error("{setting} = {value}: it must be {range}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        range: &'static str,
    },
    /// A setting has no sense, or none beside the others.
    #[error("{setting}: {reason}")]
    Refused {
        /// Its name.
        setting: &'static str,
        /// Why, and what to take.
        reason: &'static str,
    },
    /// A sequence does not fit a leaf.
    #[error(
        "sequence {sequence} needs {rows} rows, a leaf has {capacity}: raise the leaf's capacity or shorten the text"
    )]
    TooLong {
        /// Index in the step.
        sequence: u32,
        /// Rows it needs.
        rows: usize,
        /// Rows a leaf has.
        capacity: usize,
    },
    /// The rollouts of a group have different prompts, or an empty one.
    #[error("group {group}: {reason}")]
    Prompt {
        /// Index in the step.
        group: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Numbers that belong to a completion's tokens are not as many as those.
    #[error("sequence {sequence}: {got} {what} for {expected} tokens")]
    Columns {
        /// Index in the step.
        sequence: u32,
        /// Which numbers.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The KL term needs what nobody computed.
    #[error("sequence {sequence} has no reference log-probabilities, and the KL coefficient is not 0")]
    NoReference {
        /// Index in the step.
        sequence: u32,
    },
}
