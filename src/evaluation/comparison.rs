use std::borrow::Borrow;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{HeldOut, Judge, JudgeError, JudgedPair, Judging, Mode, PairJudgement, Reading, Vote};
use crate::preference::PreferencePair;
use crate::record::{Rollout, SeedKey};
use crate::rollout::{RolloutError, Sampler};
use crate::rubric::PairVerdict;
use crate::tokenizer::TokenId;

/// A pair with both judge prompts, ready to be judged again and again.
#[derive(Clone, Debug)]
pub struct PreparedPair {
    /// The pair itself.
    pub pair: PreferencePair,
    /// Tokens of its two judge prompts, as [`Judge::pair`] gives them.
    pub prompts: [Arc<[TokenId]>; 2],
}

impl Borrow<PreferencePair> for PreparedPair {
    fn borrow(&self) -> &PreferencePair {
        &self.pair
    }
}

/// What a judge wrote of some pairs.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The judgements of every pair, in the pairs' order.
    pub readings: Readings,
    /// The same as scores or failures.
    pub judged: Vec<JudgedPair>,
    /// What came of them.
    pub held_out: HeldOut,
    /// Tokens drawn.
    pub tokens: u64,
}

/// The judgements of some pairs.
#[derive(Clone, Debug)]
pub enum Readings {
    /// Of the chosen and of the rejected response of every pair, each alone.
    Pointwise(Vec<[Vec<Reading>; 2]>),
    /// Of both side by side, with the chosen response first and with the rejected one first.
    Pairwise(Vec<[Vec<Reading<PairVerdict>>; 2]>),
}

impl Judge {
    /// Encodes both prompts of every pair.
    ///
    /// # Errors
    /// As [`Judge::prompt`].
    pub fn prepare(&self, pairs: Vec<PreferencePair>, mode: Mode) -> Result<Vec<PreparedPair>, JudgeError> {
        pairs.into_iter().map(|pair| Ok(PreparedPair { prompts: self.pair(&pair, mode)?, pair })).collect()
    }

    /// Samples judgements of every prompt, a group each; the first group is `first`. `watch` hears how many judgements have
    /// ended and how many tokens have been drawn, and says whether to go on.
    ///
    /// # Errors
    /// When a prompt does not fit the engine, or `watch` does not go on.
    pub fn sample(
        &self,
        sampler: &mut Sampler<'_>,
        (prompts, first): (&[Arc<[TokenId]>], u32),
        how: Judging,
        watch: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Rollout>, RolloutError> {
        let requests = (first..).zip(prompts).map(|(group, prompt)| {
            let key = |sample| SeedKey { run: how.seed, step: 0, group, sample };
            let seeds = (0..how.judgements.max(1)).map(key).collect();
            self.request(prompt.clone(), group, seeds, how.sampling)
        });
        sampler.generate(&requests.collect::<Vec<_>>(), watch)
    }

    /// Judges every pair, whose prompts were made for `how.mode`, and compares the scores. `first` and `watch` as in
    /// [`Judge::sample`]: a pair is two groups.
    ///
    /// # Errors
    /// When a prompt does not fit the engine, or `watch` does not go on.
    pub fn compare(
        &self,
        sampler: &mut Sampler<'_>,
        (pairs, first): (&[PreparedPair], u32),
        how: Judging,
        watch: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Comparison, RolloutError> {
        let prompts: Vec<_> = pairs.iter().flat_map(|pair| pair.prompts.iter().cloned()).collect();
        let rollouts = self.sample(sampler, (&prompts, first), how, watch)?;
        let n = how.judgements.max(1) as usize;
        let readings = match how.mode {
            Mode::Pointwise => Readings::Pointwise(two(self.read_all(sampler, &rollouts, watch)?, n)),
            Mode::Pairwise => {
                Readings::Pairwise(two(rollouts.iter().map(|r| self.read_pair(r)).collect(), n))
            }
        };
        let judged = self.judged(&readings, pairs, how.vote);
        let tokens = rollouts.iter().map(|r| r.completion.len() as u64).sum();
        Ok(Comparison { held_out: HeldOut::of(&judged), readings, judged, tokens })
    }
}

/// The readings of every pair's two prompts, `n` each.
fn two<R>(readings: Vec<R>, n: usize) -> Vec<[Vec<R>; 2]> {
    let mut readings = readings.into_iter();
    let pairs = readings.len() / (2 * n);
    let mut side = || readings.by_ref().take(n).collect();
    (0..pairs).map(|_| [side(), side()]).collect()
}

impl Judge {
    /// Reads rollouts as judgements of one response each, with their expected scores where these are read; then `watch` hears how
    /// many have been, and the tokens drawn for all, and says whether to go on.
    ///
    /// # Errors
    /// As [`Judge::expect`].
    pub fn read_all(
        &self,
        sampler: &mut Sampler<'_>,
        rollouts: &[Rollout],
        watch: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Reading>, RolloutError> {
        let mut readings: Vec<Reading> = rollouts.iter().map(|rollout| self.read(rollout)).collect();
        let tokens = rollouts.iter().map(|rollout| rollout.completion.len()).sum();
        self.expect(sampler, rollouts, &mut readings, &mut |done| watch(done, tokens))?;
        Ok(readings)
    }

    fn judged(&self, readings: &Readings, pairs: &[PreparedPair], vote: Vote) -> Vec<JudgedPair> {
        let tasks = pairs.iter().map(|prepared| prepared.pair.task.as_str());
        match readings {
            Readings::Pointwise(readings) => {
                tasks.zip(readings).map(|(task, sides)| self.judged_alone(task, sides, vote)).collect()
            }
            Readings::Pairwise(readings) => {
                let order = |order: &Vec<Reading<PairVerdict>>| -> Vec<PairJudgement> {
                    order.iter().map(Reading::scores).collect()
                };
                let pair = |(task, orders): (&str, &[Vec<Reading<PairVerdict>>; 2])| {
                    let orders = orders.each_ref().map(order);
                    JudgedPair::side_by_side(task, orders.each_ref().map(Vec::as_slice), vote)
                };
                tasks.zip(readings).map(pair).collect()
            }
        }
    }

    fn judged_alone(&self, task: &str, sides: &[Vec<Reading>; 2], vote: Vote) -> JudgedPair {
        let judgements = |side: &Vec<Reading>| side.iter().map(Reading::judgement).collect();
        let judged = JudgedPair::alone(task, sides.each_ref().map(judgements), vote);
        if self.spellings.is_none() {
            return judged;
        }
        let expected = |side: &Vec<Reading>| side.iter().filter_map(|reading| reading.expected).collect();
        judged.by_expected(sides.each_ref().map(expected))
    }
}
