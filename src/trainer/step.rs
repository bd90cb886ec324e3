//! One step of the method, from preference pairs to updated weights, in the order of the data path.

use super::learner::{Learner, Pass, PassLimits};
use super::sampling::{self, Redrawn, Sampled};
use super::updates::{self, Updated};
use super::{Gate, RlConfig, RolloutConfig, Stop, TrainError, credit, left_out, reference};
use crate::evaluation::{Judge, PreparedPair};
use crate::grpo::Counts;
use crate::ops::grpo_loss::LossSums;
use crate::optimizer::{Measure, Update};
use crate::qwen3::Model;
use crate::record::{JudgedRollout, Rollout};
use crate::reward::{ParConfig, RewardStats};
use crate::rollout::{Engine, Limits};
use crate::tensor::{Arena, ArenaError};

/// What a step needs beside the weights it trains.
#[derive(Clone, Copy, Debug)]
pub struct Method<'a> {
    /// Pairs to prompts, judgements to verdicts.
    pub judge: &'a Judge,
    /// Sampling.
    pub rollout: &'a RolloutConfig,
    /// PAR and format rewards.
    pub reward: &'a ParConfig,
    /// Advantages, loss, optimizer, memory.
    pub rl: &'a RlConfig,
    /// The user's seed.
    pub seed: u64,
    /// Which losses and gradients are learned from.
    pub gate: Gate,
    /// Asked between decode steps and micro-batches.
    pub stop: Stop<'a>,
}

/// What one step came to.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Rewards, scores and failures of all judgements.
    pub rewards: RewardStats,
    /// What the KL term takes from a reward, on average.
    pub kl_penalty: f64,
    /// Groups that were judged anew, and the tokens of judgements that were given up for that.
    pub redrawn: Redrawn,
    /// Groups, sequences, targets, packed rows.
    pub counts: Counts,
    /// What each update came to.
    pub updates: Vec<Updated>,
    /// Tokens of the judgements that were learned from.
    pub tokens: usize,
    /// Longest judgement, tokens.
    pub longest: usize,
    /// All judgements, where an update was left out or they are to be recorded; else none.
    pub judged: Vec<JudgedRollout>,
}

/// One step: judge both sides of every pair n times, reward by PAR, learn by GRPO. `step` counts from 0 and keys the samples.
///
/// # Errors
/// When a prompt does not fit the plan, an operator refuses, or the run should end: then the weights are as before.
pub fn step(
    learner: &mut Learner,
    method: Method<'_>,
    pairs: &[&PreparedPair],
    step: u64,
    memory: &mut Arena,
) -> Result<StepReport, TrainError> {
    let Sampled { rollouts, readings, rewards, stats, redrawn } =
        sampling::judge(learner, method, pairs, step, memory)?;
    let reference = reference::log_probabilities(learner, method, &rollouts, memory)?;
    let (counts, kl_penalty, updates) = match unsound(&rollouts) {
        Some(unsound) => (Counts::default(), 0.0, vec![unsound]),
        None => {
            let (advantages, kl_penalty) =
                credit::assign(method.rl, &rollouts, &rewards, reference.as_deref())?;
            let groups = credit::groups(&rollouts, &advantages, reference.as_deref());
            let batches = updates::pack(&groups, method.rl)?;
            let updates = updates::learn(learner, method, &batches, step, memory)?;
            (batches.iter().map(|batch| batch.counts).sum(), kl_penalty, updates)
        }
    };
    let lengths = rollouts.iter().map(|rollout| rollout.completion.len());
    let (tokens, longest) = (lengths.clone().sum(), lengths.max().unwrap_or(0));
    let applied = updates.iter().all(|updated| matches!(updated.update, Update::Applied { .. }));
    let judged = match applied && !method.rl.records(step) {
        true => Vec::new(),
        false => left_out::judged(pairs, &rollouts, &readings, (&rewards, reference.as_deref())),
    };
    Ok(StepReport { rewards: stats, kl_penalty, redrawn, counts, updates, tokens, longest, judged })
}

/// Logits that were not finite while sampling: what was drawn from them teaches nothing.
fn unsound(rollouts: &[Rollout]) -> Option<Updated> {
    let lse = rollouts.iter().flat_map(|rollout| &rollout.lse).find(|lse| !lse.is_finite())?;
    let update = Update::LeftOut { what: Measure::Logits, value: f64::from(*lse), limit: f64::INFINITY };
    Some(Updated { sums: LossSums::default(), update })
}

impl Method<'_> {
    /// Sizes of the training pass.
    pub(super) fn pass_limits(&self) -> PassLimits {
        self.rl.pass_limits(2 * self.rl.pairs * self.rollout.samples as usize)
    }
}

impl RolloutConfig {
    /// Sizes of the sampling engine.
    pub fn limits(&self) -> Limits {
        Limits { tokens: self.tokens_per_pass, sequences: self.sequences, blocks: self.kv_blocks }
    }
}

/// Carves, one after the other, what every phase of a step carves: over a planned arena this is the memory that a step needs.
///
/// # Errors
/// When the arena is full.
pub fn plan(
    learner: &Model,
    rollout: &RolloutConfig,
    rl: &RlConfig,
    memory: &mut Arena,
) -> Result<(), ArenaError> {
    drop(Engine::new(&learner.config, learner.dtype, rollout.limits(), memory)?);
    memory.reset();
    let sequences = 2 * rl.pairs * rollout.samples as usize;
    drop(Pass::new(&learner.config, learner.dtype, rl.pass_limits(sequences), memory)?);
    memory.reset();
    Ok(())
}
