//! One step of the method, from preference pairs to updated weights, in the order of the data path.

use super::learner::{Learner, Pass, PassLimits, log_probabilities};
use super::updates::{self, Updated};
use super::{Gate, RlConfig, RolloutConfig, Stop, TrainError, left_out};
use crate::evaluation::{Judge, PreparedPair, Reading};
use crate::grpo::{
    self, Advantage, Counts, Group, GroupAdvantages, Life, LossConfig, Rewarded, Scored, Sharing,
};
use crate::ops::grpo_loss::LossSums;
use crate::ops::head;
use crate::optimizer::{Measure, Update};
use crate::qwen3::{Keep, Model};
use crate::record::{JudgedRollout, Rollout, SeedKey};
use crate::reward::{self, Judgement, Outcome, PairRewards, ParConfig, RewardStats};
use crate::rollout::{Engine, Limits, Request, Sampler};
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
    /// Groups, sequences, targets, packed rows.
    pub counts: Counts,
    /// What each update came to.
    pub updates: Vec<Updated>,
    /// Tokens drawn.
    pub tokens: usize,
    /// Longest judgement, tokens.
    pub longest: usize,
    /// All judgements, where the update was left out; else none.
    pub left_out: Vec<JudgedRollout>,
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
    let requests = requests(method, pairs, step);
    let rollouts = sample(learner, method, &requests, memory)?;
    let readings: Vec<Reading> = rollouts.iter().map(|rollout| method.judge.read(rollout)).collect();
    let judgements: Vec<Judgement> = readings.iter().map(Reading::judgement).collect();
    let (rewards, stats) = rewards(method, &judgements);
    let lengths = rollouts.iter().map(|rollout| rollout.completion.len());
    let (tokens, longest) = (lengths.clone().sum(), lengths.max().unwrap_or(0));
    let (counts, updates) = match unsound(&rollouts) {
        Some(unsound) => (Counts::default(), vec![unsound]),
        None => {
            let advantages = advantages(method, &rewards, &rollouts);
            let reference = reference(learner, method, &rollouts, memory)?;
            let groups = groups(&rollouts, &advantages, reference.as_deref());
            let batches = updates::pack(&groups, method.rl)?;
            let updates = updates::learn(learner, method, &batches, step, memory)?;
            (batches.iter().map(|batch| batch.counts).sum(), updates)
        }
    };
    let left_out = match updates.iter().all(|updated| matches!(updated.update, Update::Applied { .. })) {
        true => Vec::new(),
        false => left_out::judged(pairs, &rollouts, &readings, &rewards),
    };
    Ok(StepReport { rewards: stats, counts, updates, tokens, longest, left_out })
}

/// Logits that were not finite while sampling: what was drawn from them teaches nothing.
fn unsound(rollouts: &[Rollout]) -> Option<Updated> {
    let lse = rollouts.iter().flat_map(|rollout| &rollout.lse).find(|lse| !lse.is_finite())?;
    let update = Update::LeftOut { what: Measure::Logits, value: f64::from(*lse), limit: f64::INFINITY };
    Some(Updated { sums: LossSums::default(), update })
}

/// n samples of both sides of every pair: group 2 p judges pair p's chosen response, group 2 p + 1 the rejected one.
fn requests(method: Method<'_>, pairs: &[&PreparedPair], step: u64) -> Vec<Request> {
    let prompts = pairs.iter().flat_map(|pair| pair.prompts.iter().cloned());
    let request = |(group, prompt)| {
        let key = |sample| SeedKey { run: method.seed, step, group: group as u32, sample };
        let seeds = (0..method.rollout.samples).map(key).collect();
        method.judge.request(prompt, group as u32, seeds, method.rollout.sampling)
    };
    prompts.enumerate().map(request).collect()
}

fn sample(
    learner: &Learner,
    method: Method<'_>,
    requests: &[Request],
    memory: &mut Arena,
) -> Result<Vec<Rollout>, TrainError> {
    memory.reset();
    let model = &learner.model;
    let engine = Engine::new(&model.config, model.dtype, method.rollout.limits(), memory)?;
    let mut sampler = Sampler { stream: &learner.stream, model, weights_version: learner.version, engine };
    Ok(sampler.generate(requests, &mut |_, _| method.stop.flow())?)
}

fn rewards(method: Method<'_>, judgements: &[Judgement]) -> (Vec<PairRewards>, RewardStats) {
    let n = method.rollout.samples as usize;
    let mut stats = RewardStats::default();
    let pairs = judgements.chunks_exact(2 * n).map(|pair| {
        let (chosen, rejected) = pair.split_at(n);
        let rewards = reward::par(chosen, rejected, method.reward);
        stats.count(chosen, rejected, &rewards);
        rewards
    });
    (pairs.collect(), stats)
}

fn advantages(method: Method<'_>, rewards: &[PairRewards], rollouts: &[Rollout]) -> Vec<GroupAdvantages> {
    let groups = rewards.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]);
    let mut rollouts = rollouts.iter();
    let rewarded =
        |outcome: &Outcome, rollout: &Rollout| Rewarded { reward: outcome.reward(), tokens: rollout.drawn() };
    let groups: Vec<Vec<Rewarded>> = groups
        .map(|group| {
            group.iter().zip(&mut rollouts).map(|(outcome, rollout)| rewarded(outcome, rollout)).collect()
        })
        .collect();
    grpo::advantages(&groups, &method.rl.advantage)
}

/// ln p of every completion token under the frozen reference, where the loss asks for it.
fn reference(
    learner: &mut Learner,
    method: Method<'_>,
    rollouts: &[Rollout],
    memory: &mut Arena,
) -> Result<Option<Vec<Vec<f32>>>, TrainError> {
    if method.rl.loss.kl == 0.0 {
        return Ok(None);
    }
    let all = rollouts.chunk_by(|a, b| a.group == b.group).map(|group| Group {
        rollouts: group
            .iter()
            .map(|rollout| Scored { rollout, advantage: Some(Advantage(0.0)), reference: None })
            .collect(),
        life: Life::Alive,
    });
    let plain = LossConfig::default();
    let batch = grpo::pack(&all.collect::<Vec<_>>(), &plain, Sharing::Prefix, method.rl.leaf_tokens)?;
    memory.reset();
    let limits = PassLimits { keep: Keep::Nothing, ..method.pass_limits() };
    let scale = head::inverse_temperature(method.rollout.sampling.temperature);
    let measured = learner.under_reference(|stream, model| -> Result<_, TrainError> {
        let mut pass = Pass::new(&model.config, model.dtype, limits, memory)?;
        let mut columns: Vec<Vec<f32>> = vec![Vec::new(); rollouts.len()];
        for leaf in &batch.leaves {
            method.stop.check()?;
            let logprobs = log_probabilities(stream, model, leaf, scale, &mut pass)?;
            for (sequence, logprob) in leaf.targets.sequence.iter().zip(logprobs) {
                columns[*sequence as usize].push(logprob as f32);
            }
        }
        Ok(columns)
    });
    measured.transpose()
}

/// Rollouts with their advantages and reference log-probabilities, by prompt.
fn groups<'a>(
    rollouts: &'a [Rollout],
    advantages: &[GroupAdvantages],
    reference: Option<&'a [Vec<f32>]>,
) -> Vec<Group<'a>> {
    let mut rollouts = rollouts.iter().enumerate();
    let group = |of: &GroupAdvantages| {
        let scored = of.advantages.iter().zip(&mut rollouts).map(|(advantage, (i, rollout))| Scored {
            rollout,
            advantage: *advantage,
            reference: reference.map(|columns| columns[i].as_slice()),
        });
        Group { rollouts: scored.collect(), life: of.life }
    };
    advantages.iter().map(group).collect()
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
