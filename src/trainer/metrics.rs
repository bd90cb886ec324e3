//! What a step is recorded as. Names follow TRL where it has one.

use super::baseline::BaselineStep;
use super::sft::SftStep;
use super::step::StepReport;
use crate::optimizer::Update;
use crate::report::Row;
use crate::reward::Standing;

/// The row of a supervised step between two times.
pub(super) fn supervised(report: &SftStep, step: u64, (began, now): (f64, f64)) -> Row {
    let seconds = now - began;
    let row = Row::new(step, "sft", now)
        .with("loss", report.loss)
        .with("entropy", report.entropy)
        .with("tokens", report.targets as f64)
        .with("tokens_per_second", report.rows as f64 / seconds)
        .with("step_time", seconds);
    with_update(row, &report.update)
}

/// The row of a step of the Bradley-Terry baseline between two times.
pub(super) fn bradley_terry(report: &BaselineStep, step: u64, (began, now): (f64, f64)) -> Row {
    let row = Row::new(step, "bradley_terry", now)
        .with("loss", report.loss)
        .with("tokens", report.tokens as f64)
        .with("tokens_per_second", report.tokens as f64 / (now - began))
        .with("step_time", now - began);
    with_update(row, &report.update)
}

/// The row of a step of reinforcement learning between two times.
pub(super) fn reinforcement(report: &StepReport, step: u64, (began, now): (f64, f64)) -> Row {
    let (rewards, sums, counts) = (&report.rewards, &report.sums, &report.counts);
    let (seconds, tokens) = (now - began, sums.tokens.max(1) as f64);
    let row = Row::new(step, "rl", now)
        .with("reward", rewards.mean_reward())
        .with("score/mean", rewards.scores.mean())
        .with("score/spread", rewards.scores.spread())
        .with("score/entropy", rewards.scores.entropy())
        .with("score/saturation", rewards.scores.saturation())
        .with("pairs/win", rewards.share(Standing::Win))
        .with("pairs/tie", rewards.share(Standing::Tie))
        .with("pairs/loss", rewards.share(Standing::Loss))
        .with("failure_rate", rewards.failure_rate())
        .with("frac_reward_zero_std", counts.equal as f64 / counts.groups.max(1) as f64)
        .with("loss", sums.loss)
        .with("kl", sums.kl_estimate / tokens)
        .with("entropy", sums.token_entropy / tokens)
        .with("clip_ratio/low_mean", sums.clipped_low as f64 / tokens)
        .with("clip_ratio/high_mean", sums.clipped_high as f64 / tokens)
        .with("clip_ratio/dual_mean", sums.clipped_dual as f64 / tokens)
        .with("ratio/mean", sums.ratio / tokens)
        .with("on_policy_gap", sums.largest_gap)
        .with("completions/mean_length", report.tokens as f64 / rewards.judgements().max(1) as f64)
        .with("completions/max_length", report.longest as f64)
        .with("tokens", report.tokens as f64)
        .with("tokens_per_second", report.tokens as f64 / seconds)
        .with("step_time", seconds);
    let row = rewards.failures.iter().fold(row, |row, (kind, count)| {
        row.with(format!("failures/{}", kind.name()), *count as f64 / rewards.judgements().max(1) as f64)
    });
    with_update(row, &report.update)
}

fn with_update(row: Row, update: &Update) -> Row {
    match update {
        Update::Applied { norm, lr, .. } => row.with("grad_norm", *norm).with("lr", *lr).with("skipped", 0.0),
        Update::Skipped { .. } => row.with("skipped", 1.0),
    }
}
