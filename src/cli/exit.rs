use std::io::ErrorKind;
use std::process::ExitCode;

use super::model::ModelError;
use super::output::{OutputError, say};
use super::rows::InputError;
use crate::bench::BenchError;
use crate::checkpoint::{CheckpointError, Fault};
use crate::device::DeviceError;
use crate::evaluation::JudgeError;
use crate::grpo::GrpoError;
use crate::optimizer::OptimizerError;
use crate::preference::PreferenceError;
use crate::report::ReportError;
use crate::rollout::RolloutError;
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
/// Judgements or rewards could not be had.
pub(super) const REWARD: u8 = 7;
/// The disk failed.
pub(super) const DISK: u8 = 8;
/// Stopped on request and saved: run again with `--resume`.
pub(super) const PREEMPTED: u8 = 75;

/// Prints the chain of causes on standard error and picks the exit code.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    let output = error.downcast_ref::<OutputError>();
    if output.is_some_and(OutputError::is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    say(&format!("patarm: {}", chain(error)));
    let data = || error.is::<InputError>().then_some(DATA);
    let disk = || output.map(|_| DISK);
    let report = || error.downcast_ref::<ReportError>().map(of_report);
    let device = || error.is::<DeviceError>().then_some(DEVICE);
    let bench = || error.downcast_ref::<BenchError>().map(of_bench);
    let model = || error.is::<ModelError>().then_some(MODEL);
    let code = error
        .downcast_ref::<TrainError>()
        .map(code)
        .or_else(data)
        .or_else(model)
        .or_else(device)
        .or_else(bench)
        .or_else(disk)
        .or_else(report);
    ExitCode::from(code.unwrap_or(USAGE))
}

/// The causes, outermost first; one that its parent's message already ends with is not said twice.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.is_empty() {
        true => cause,
        false if said.ends_with(&cause) => said,
        false => format!("{said}: {cause}"),
    })
}

fn of_bench(error: &BenchError) -> u8 {
    match error {
        BenchError::Peer { .. } | BenchError::Wrong { .. } => USAGE,
        BenchError::Arena(_)
        | BenchError::Op(_)
        | BenchError::Device(_)
        | BenchError::Optimizer(_)
        | BenchError::Rollout(_) => DEVICE,
    }
}

fn of_report(error: &ReportError) -> u8 {
    match error {
        ReportError::File { source, .. } if source.kind() != ErrorKind::NotFound => DISK,
        _ => DATA,
    }
}

fn of_checkpoint(error: &CheckpointError) -> u8 {
    match error {
        CheckpointError::Exists { .. } => USAGE,
        CheckpointError::NoRoom { .. } => DISK,
        CheckpointError::Tensor { fault: Fault::Device(_), .. } => DEVICE,
        CheckpointError::Io { doing, .. } if !["open it", "read it"].contains(doing) => DISK,
        _ => MODEL,
    }
}

fn code(error: &TrainError) -> u8 {
    match error {
        TrainError::Preference(PreferenceError::Io { source, .. })
            if source.kind() == ErrorKind::NotFound =>
        {
            DATA
        }
        TrainError::Checkpoint(error) => of_checkpoint(error),
        TrainError::Judge(JudgeError::Tokenizer(_)) => MODEL,
        TrainError::Judge(JudgeError::Thinking { .. } | JudgeError::Joined { .. }) => USAGE,
        TrainError::Preference(PreferenceError::Io { .. }) | TrainError::Metrics(_) => DISK,
        TrainError::Preference(_)
        | TrainError::Judge(_)
        | TrainError::Record(_)
        | TrainError::Overlong { .. }
        | TrainError::Contaminated { .. } => DATA,
        TrainError::Tokenizer(_) | TrainError::Model(_) => MODEL,
        TrainError::Device(_)
        | TrainError::Memory(_)
        | TrainError::TooLittleMemory { .. }
        | TrainError::Op(_)
        | TrainError::Rollout(RolloutError::Op(_))
        | TrainError::Grpo(GrpoError::Op(_) | GrpoError::Device(_))
        | TrainError::Optimizer(OptimizerError::Op(_)) => DEVICE,
        TrainError::Grpo(GrpoError::Setting { .. } | GrpoError::Refused { .. }) => USAGE,
        TrainError::Rollout(_) | TrainError::Grpo(_) => DATA,
        TrainError::Rubric(_)
        | TrainError::Optimizer(_)
        | TrainError::Config { .. }
        | TrainError::Taken { .. }
        | TrainError::Changed { .. }
        | TrainError::Folder { .. } => USAGE,
        TrainError::Diverged { .. } => DIVERGED,
        TrainError::Unreadable { .. } => REWARD,
        TrainError::Stopped | TrainError::Paused => PREEMPTED,
    }
}
