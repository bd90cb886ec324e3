use std::borrow::Borrow;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{HeldOut, Judge, JudgeError, JudgedPair, Reading};
use crate::preference::PreferencePair;
use crate::record::{Rollout, Sampling, SeedKey};
use crate::rollout::{RolloutError, Sampler};
use crate::tokenizer::TokenId;

/// A pair with both judge prompts, ready to be judged again and again.
#[derive(Clone, Debug)]
pub struct PreparedPair {
    /// The pair itself.
    pub pair: PreferencePair,
    /// Tokens of the chosen and the rejected side's judge prompt.
    pub prompts: [Arc<[TokenId]>; 2],
}

impl Borrow<PreferencePair> for PreparedPair {
    fn borrow(&self) -> &PreferencePair {
        &self.pair
    }
}

/// How responses are judged for a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Judging {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Judgements of each response; with several, mean scores are compared.
    pub judgements: u32,
    /// Keys the draws.
    pub seed: u64,
}

/// What a judge wrote of some pairs, each side judged alone.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The judgements of the chosen and of the rejected side of every pair, in the pairs' order.
    pub readings: Vec<[Vec<Reading>; 2]>,
    /// The same as scores or failures.
    pub judged: Vec<JudgedPair>,
    /// What came of them.
    pub held_out: HeldOut,
    /// Tokens drawn.
    pub tokens: u64,
}

impl Judge {
    /// Encodes both sides of every pair.
    ///
    /// # Errors
    /// As [`Judge::prompt`].
    pub fn prepare(&self, pairs: Vec<PreferencePair>) -> Result<Vec<PreparedPair>, JudgeError> {
        pairs.into_iter().map(|pair| Ok(PreparedPair { prompts: self.pair(&pair)?, pair })).collect()
    }

    /// Judges both sides of every pair and compares the scores. `watch` hears how many judgements have ended and how many
    /// tokens have been drawn, and says whether to go on.
    ///
    /// # Errors
    /// When a prompt does not fit the engine, or `watch` does not go on.
    pub fn compare(
        &self,
        sampler: &mut Sampler<'_>,
        pairs: &[PreparedPair],
        how: Judging,
        watch: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Comparison, RolloutError> {
        let n = how.judgements.max(1);
        let sides = pairs.iter().flat_map(|pair| pair.prompts.iter().cloned());
        let requests = sides.enumerate().map(|(i, prompt)| {
            let key = |sample| SeedKey { run: how.seed, step: 0, group: i as u32, sample };
            self.request(prompt, i as u32, (0..n).map(key).collect(), how.sampling)
        });
        let rollouts = sampler.generate(&requests.collect::<Vec<_>>(), watch)?;
        let tokens = rollouts.iter().map(|r| r.completion.len() as u64).sum();
        let read = |side: &[Rollout]| side.iter().map(|rollout| self.read(rollout)).collect::<Vec<_>>();
        let n = n as usize;
        let readings: Vec<[Vec<Reading>; 2]> =
            rollouts.chunks_exact(2 * n).map(|pair| [read(&pair[..n]), read(&pair[n..])]).collect();
        let judged: Vec<JudgedPair> =
            pairs.iter().zip(&readings).map(|(pair, sides)| judged(pair, sides)).collect();
        Ok(Comparison { held_out: HeldOut::of(&judged), readings, judged, tokens })
    }
}

fn judged(prepared: &PreparedPair, sides: &[Vec<Reading>; 2]) -> JudgedPair {
    let [chosen, rejected] = sides.each_ref().map(|side| side.iter().map(Reading::judgement).collect());
    JudgedPair { task: prepared.pair.task.clone(), chosen, rejected }
}
