//! From gradients to weights: AdamW over named parameters, global-norm clip, schedules.

mod config;
mod kept;
mod schedule;
mod update;

use crate::ops::OpError;

pub use config::OptimizerConfig;
pub use kept::{Kept, Moments, WeightRounding};
pub use schedule::{Schedule, Shape};
pub use update::{Decay, Measure, Parameter, Update, update, update_up_to};

/// Why an optimizer could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// An operator refused its arguments.
    #[error(transparent)]
    Op(#[from] OpError),
    /// A setting is out of range.
    #[error("optimizer.{setting} = {value}: it must be {range}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        range: &'static str,
    },
}
