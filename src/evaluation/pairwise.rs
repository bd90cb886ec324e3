use std::sync::Arc;

use super::{HeldOut, Judge, JudgeError, JudgedPair, Reading};
use crate::preference::PreferencePair;
use crate::record::{Sampling, SeedKey};
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

/// What a judge wrote of some pairs, each side judged alone and once.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The chosen and the rejected side of every pair, in the pairs' order.
    pub readings: Vec<[Reading; 2]>,
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

    /// Judges both sides of every pair once and compares the scores. `watch` hears how many judgements have ended and how many
    /// tokens have been drawn.
    ///
    /// # Errors
    /// When a prompt does not fit the engine.
    pub fn compare(
        &self,
        sampler: &mut Sampler<'_>,
        pairs: &[PreparedPair],
        (sampling, seed): (Sampling, u64),
        watch: &mut dyn FnMut(usize, usize),
    ) -> Result<Comparison, RolloutError> {
        let sides = pairs.iter().flat_map(|pair| pair.prompts.iter().cloned());
        let requests = sides.enumerate().map(|(i, prompt)| {
            let key = SeedKey { run: seed, step: 0, group: i as u32, sample: 0 };
            self.request(prompt, i as u32, vec![key], sampling)
        });
        let rollouts = sampler.generate(&requests.collect::<Vec<_>>(), watch)?;
        let tokens = rollouts.iter().map(|r| r.completion.len() as u64).sum();
        let readings: Vec<[Reading; 2]> =
            rollouts.chunks_exact(2).map(|sides| [self.read(&sides[0]), self.read(&sides[1])]).collect();
        let judged = pairs.iter().zip(&readings).map(|(prepared, [chosen, rejected])| JudgedPair {
            task: prepared.pair.task.clone(),
            chosen: vec![chosen.judgement()],
            rejected: vec![rejected.judgement()],
        });
        let held_out = HeldOut::of(&judged.collect::<Vec<_>>());
        Ok(Comparison { readings, held_out, tokens })
    }
}
