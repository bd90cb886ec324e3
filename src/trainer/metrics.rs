//! What a step is recorded as. Names follow TRL where it has one.

use super::baseline::BaselineStep;
use super::sft::SftStep;
use super::step::StepReport;
use crate::ops::grpo_loss::LossSums;
use crate::optimizer::Update;
use crate::report::Row;
use crate::reward::Standing;
use crate::rubric::FailureKind;

/// The row of a supervised step between two times.
pub(super) fn supervised(report: &SftStep, step: u64, (began, now): (f64, f64)) -> Row {
    let seconds = now - began;
    let row = Row::new(step, "sft", now)
        .with("loss", report.loss)
        .with("entropy", report.entropy)
        .with("tokens", report.targets as f64)
        .with("tokens_per_second", report.rows as f64 / seconds)
        .with("step_time", seconds);
    with_updates(row, [&report.update])
}

/// The row of a step of the Bradley-Terry baseline between two times.
pub(super) fn bradley_terry(report: &BaselineStep, step: u64, (began, now): (f64, f64)) -> Row {
    let row = Row::new(step, "bradley_terry", now)
        .with("loss", report.loss)
        .with("tokens", report.tokens as f64)
        .with("tokens_per_second", report.tokens as f64 / (now - began))
        .with("step_time", now - began);
    with_updates(row, [&report.update])
}

/// The row of a step of reinforcement learning between two times. Of several updates: the mean loss and gradient norm, and the
/// rest over the tokens of all; the gap is the first one's, which alone is on-policy.
pub(super) fn reinforcement(report: &StepReport, step: u64, (began, now): (f64, f64)) -> Row {
    let (rewards, counts, updates) = (&report.rewards, &report.counts, &report.updates);
    let sums: LossSums = updates.iter().map(|updated| updated.sums).sum();
    let gap = updates.first().map_or(0.0, |first| first.sums.largest_gap);
    let (seconds, tokens) = (now - began, sums.tokens.max(1) as f64);
    let cut_off = rewards.failures.get(&FailureKind::CutOff).copied().unwrap_or_default();
    let drawn = (report.tokens + report.redrawn.tokens) as f64;
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
        .with("masked", rewards.masked as f64 / rewards.judgements().max(1) as f64)
        .with("frac_reward_zero_std", counts.equal as f64 / counts.groups.max(1) as f64)
        .with("groups/resampled", report.redrawn.groups as f64)
        .with("reward/kl_penalty", report.kl_penalty)
        .with("loss", sums.loss / updates.len() as f64)
        .with("kl", sums.kl_estimate / tokens)
        .with("entropy", sums.token_entropy / tokens)
        .with("clip_ratio/low_mean", sums.clipped_low as f64 / tokens)
        .with("clip_ratio/high_mean", sums.clipped_high as f64 / tokens)
        .with("clip_ratio/region_mean", (sums.clipped_low + sums.clipped_high) as f64 / tokens)
        .with("clip_ratio/dual_mean", sums.clipped_dual as f64 / tokens)
        .with("ratio/mean", sums.ratio / tokens)
        .with("on_policy_gap", gap)
        .with("completions/mean_length", report.tokens as f64 / rewards.judgements().max(1) as f64)
        .with("completions/max_length", report.longest as f64)
        .with("completions/clipped_ratio", cut_off as f64 / rewards.judgements().max(1) as f64)
        .with("tokens", drawn)
        .with("tokens_per_second", drawn / seconds)
        .with("step_time", seconds);
    let row = rewards.failures.iter().fold(row, |row, (kind, count)| {
        row.with(format!("failures/{}", kind.name()), *count as f64 / rewards.judgements().max(1) as f64)
    });
    with_updates(row, report.updates.iter().map(|updated| &updated.update))
}

/// The mean gradient norm and the last learning rate of the updates that were applied, and how many were not.
fn with_updates<'a>(row: Row, updates: impl IntoIterator<Item = &'a Update>) -> Row {
    let (mut norms, mut applied, mut skipped, mut last) = (0.0, 0.0, 0.0, None);
    for update in updates {
        match update {
            Update::Applied { norm, lr, .. } => {
                (norms, applied, last) = (norms + norm, applied + 1.0, Some(*lr))
            }
            Update::Skipped { .. } | Update::LeftOut { .. } => skipped += 1.0,
        }
    }
    let row = match last {
        Some(lr) => row.with("grad_norm", norms / applied).with("learning_rate", lr),
        None => row,
    };
    row.with("skipped", skipped)
}
