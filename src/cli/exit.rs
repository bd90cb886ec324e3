use std::process::ExitCode;

use crate::preference::PreferenceError;
use crate::trainer::TrainError;

/// Bad usage or configuration.
pub(super) const USAGE: u8 = 2;
/// Bad data.
pub(super) const DATA: u8 = 3;
/// Bad model or checkpoint.
pub(super) const MODEL: u8 = 4;
/// Device or memory.
pub(super) const DEVICE: u8 = 5;
/// The run diverged.
pub(super) const DIVERGED: u8 = 6;
/// The disk failed.
pub(super) const DISK: u8 = 8;
/// Stopped on request and saved: run again with `--resume`.
pub(super) const PREEMPTED: u8 = 75;

/// Prints the chain of causes on standard error and picks the exit code.
#[allow(clippy::print_stderr)]
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("patarm: {error:#}");
    ExitCode::from(error.downcast_ref::<TrainError>().map_or(USAGE, code))
}

fn code(error: &TrainError) -> u8 {
    match error {
        TrainError::Preference(PreferenceError::Io { .. }) | TrainError::Metrics(_) => DISK,
        TrainError::Preference(_) | TrainError::Judge(_) | TrainError::Overlong { .. } => DATA,
        TrainError::Tokenizer(_) | TrainError::Model(_) | TrainError::Checkpoint(_) => MODEL,
        TrainError::Device(_) | TrainError::Memory(_) | TrainError::Op(_) => DEVICE,
        TrainError::Rollout(_) | TrainError::Grpo(_) => DATA,
        TrainError::Rubric(_)
        | TrainError::Optimizer(_)
        | TrainError::Config { .. }
        | TrainError::Folder { .. } => USAGE,
        TrainError::Diverged { .. } => DIVERGED,
    }
}
