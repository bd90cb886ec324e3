//! Supervised steps: the cold start that teaches reading and the output grammar.

use super::data::step_rows;
use super::learner::{Learner, Objective, Pass};
use super::{Gate, Stop, TrainError};
use crate::grpo::{self, Example};
use crate::ops::grpo_loss::LossSums;
use crate::optimizer::{OptimizerConfig, Update};

/// A prompt and what the model shall write after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftRow {
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// Token ids, the end-of-sequence token included.
    pub completion: Vec<u32>,
}

/// Hash of rows in their order, hexadecimal.
pub fn hash(rows: &[SftRow]) -> String {
    let mut hasher = blake3::Hasher::new();
    for ids in rows.iter().flat_map(|row| [&row.prompt, &row.completion]) {
        hasher.update(&(ids.len() as u64).to_le_bytes());
        for id in ids {
            hasher.update(&id.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// What one supervised step came to.
#[derive(Clone, Debug)]
pub struct SftStep {
    /// Mean negative log-probability of the completion tokens, nats.
    pub loss: f64,
    /// Mean entropy of the policy at those tokens, nats.
    pub entropy: f64,
    /// Packed rows.
    pub rows: usize,
    /// Completion tokens.
    pub targets: usize,
    /// What became of the weights.
    pub update: Update,
}

/// Which rows a step takes and how it learns from them.
#[derive(Clone, Copy, Debug)]
pub struct SftPlan<'a> {
    /// All rows.
    pub rows: &'a [SftRow],
    /// Seed of their order.
    pub seed: u64,
    /// Rows of a step.
    pub batch: usize,
    /// Packed rows of a leaf.
    pub leaf_tokens: usize,
    /// Leaves in memory at once.
    pub leaves: usize,
    /// AdamW.
    pub optimizer: &'a OptimizerConfig,
    /// Which losses and gradients are learned from.
    pub gate: Gate,
    /// Asked between micro-batches.
    pub stop: Stop<'a>,
}

/// Supervised step `step` (from 0): the mean over all completion tokens of the step.
///
/// # Errors
/// When a row is larger than a leaf, or the run should end: then nothing has changed.
pub fn step(
    learner: &mut Learner,
    plan: SftPlan<'_>,
    step: u64,
    pass: &mut Pass,
) -> Result<SftStep, TrainError> {
    let rows = step_rows(plan.seed, step, plan.batch, plan.rows.len());
    let examples: Vec<Example<'_>> = rows
        .iter()
        .map(|&i| Example { prompt: &plan.rows[i].prompt, completion: &plan.rows[i].completion })
        .collect();
    let batch = grpo::pack_examples(&examples, plan.leaf_tokens)?;
    learner.zero_gradients()?;
    let mut sums = LossSums::default();
    for leaves in batch.leaves.chunks(plan.leaves.max(1)) {
        plan.stop.check()?;
        learner.accumulate(&grpo::Packed::join(leaves), Objective::Supervised, pass, &mut sums)?;
    }
    let update = learner.update(plan.optimizer, step + 1, (sums.loss, plan.gate))?;
    let (rows, targets) = (batch.counts.rows, batch.counts.targets);
    Ok(SftStep {
        loss: sums.loss,
        entropy: sums.token_entropy / targets.max(1) as f64,
        rows,
        targets,
        update,
    })
}
