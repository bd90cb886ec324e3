//! The judgements of a step: sampled, read, rewarded, and where that is asked for sampled again.

use super::TrainError;
use super::learner::Learner;
use super::step::Method;
use crate::device::range;
use crate::evaluation::{PreparedPair, Reading};
use crate::grpo::Life;
use crate::record::{Rollout, SeedKey};
use crate::reward::{self, Judgement, Outcome, Reward, RewardStats};
use crate::rollout::{Engine, Request, Sampler};
use crate::tensor::Arena;

/// What was given up for groups that were judged anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redrawn {
    /// Groups, each as often as it was judged anew.
    pub groups: usize,
    /// Tokens of their judgements before.
    pub tokens: usize,
}

/// A step's judgements, one entry of each kind a rollout.
#[derive(Debug)]
pub(super) struct Sampled {
    /// Group 2 p judges pair p's chosen response, group 2 p + 1 the rejected one.
    pub(super) rollouts: Vec<Rollout>,
    pub(super) readings: Vec<Reading>,
    /// None: masked.
    pub(super) rewards: Vec<Option<Reward>>,
    /// Of the first judgements.
    pub(super) stats: RewardStats,
    pub(super) redrawn: Redrawn,
}

/// Judges both sides of every pair n times and rewards that; groups that tell nothing apart are judged anew as often as
/// `rl.resample` says.
pub(super) fn judge(
    learner: &Learner,
    method: Method<'_>,
    pairs: &[&PreparedPair],
    step: u64,
    memory: &mut Arena,
) -> Result<Sampled, TrainError> {
    let n = method.rollout.samples as usize;
    let first = requests(method, pairs, step);
    let mut rollouts = sample(learner, method, &first, memory)?;
    let (mut readings, mut rewards, stats) = reward(method, &rollouts);
    let mut redrawn = Redrawn::default();
    for round in 1..=method.rl.resample {
        let dead: Vec<usize> =
            (0..first.len()).filter(|group| !is_alive(&rewards[group * n..][..n])).collect();
        if dead.is_empty() {
            break;
        }
        let again: Vec<Request> = dead.iter().map(|&group| anew(&first[group], round)).collect();
        let mut fresh = sample(learner, method, &again, memory)?.into_iter();
        for group in &dead {
            for (place, rollout) in rollouts[group * n..][..n].iter_mut().zip(&mut fresh) {
                redrawn.tokens += std::mem::replace(place, rollout).completion.len();
            }
        }
        redrawn.groups += dead.len();
        (readings, rewards, _) = reward(method, &rollouts);
    }
    Ok(Sampled { rollouts, readings, rewards, stats, redrawn })
}

fn is_alive(group: &[Option<Reward>]) -> bool {
    Life::of(group.iter().flatten().copied()) == Life::Alive
}

/// n samples of both sides of every pair.
fn requests(method: Method<'_>, pairs: &[&PreparedPair], step: u64) -> Vec<Request> {
    let prompts = pairs.iter().flat_map(|pair| pair.prompts.iter().cloned());
    let request = |(group, prompt)| {
        let key = |sample| SeedKey { run: method.seed, step, group: group as u32, sample };
        let seeds = (0..method.rollout.samples).map(key).collect();
        method.judge.request(prompt, group as u32, seeds, method.rollout.sampling)
    };
    prompts.enumerate().map(request).collect()
}

/// The same judgements with random numbers of their own.
fn anew(request: &Request, round: u32) -> Request {
    let mut request = request.clone();
    let n = request.seeds.len() as u32;
    request.seeds.iter_mut().for_each(|seed| seed.sample += round * n);
    request
}

fn sample(
    learner: &Learner,
    method: Method<'_>,
    requests: &[Request],
    memory: &mut Arena,
) -> Result<Vec<Rollout>, TrainError> {
    let _rollout = range("rollout");
    memory.reset();
    let model = &learner.model;
    let engine = Engine::new(&model.config, model.dtype, method.rollout.limits(), memory)?;
    let mut sampler = Sampler { stream: &learner.stream, model, weights_version: learner.version, engine };
    Ok(sampler.generate(requests, &mut |_, _| method.stop.flow())?)
}

/// Reads all judgements, and rewards each pair's by PAR, less what long ones lose.
fn reward(method: Method<'_>, rollouts: &[Rollout]) -> (Vec<Reading>, Vec<Option<Reward>>, RewardStats) {
    let n = method.rollout.samples as usize;
    let readings: Vec<Reading> = rollouts.iter().map(|rollout| method.judge.read(rollout)).collect();
    let judgements: Vec<Judgement> = readings.iter().map(Reading::judgement).collect();
    let lengths: Vec<usize> = rollouts.iter().map(|rollout| rollout.completion.len()).collect();
    let mut stats = RewardStats::default();
    let mut rewards = Vec::with_capacity(rollouts.len());
    for (pair, lengths) in judgements.chunks_exact(2 * n).zip(lengths.chunks_exact(2 * n)) {
        let (chosen, rejected) = pair.split_at(n);
        let of_pair =
            reward::par(chosen, rejected, method.reward).less_overlong(&method.reward.overlong, lengths);
        stats.count(chosen, rejected, &of_pair);
        rewards.extend(of_pair.chosen.into_iter().chain(of_pair.rejected).map(Outcome::reward));
    }
    (readings, rewards, stats)
}
