use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::config::Overlong;
use super::{DataConfig, TrainError};
use crate::evaluation::{Judge, PreparedPair};
use crate::preference::PreferencePair;

/// The pairs of a run, both judge prompts of each encoded.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// What the policy learns from.
    pub train: Vec<PreparedPair>,
    /// For the curve and the choice of the best checkpoint.
    pub validation: Vec<PreparedPair>,
    /// Judged before and after reinforcement learning only.
    pub held_out: Vec<PreparedPair>,
    /// Hash of all pairs, hexadecimal.
    pub hash: String,
    /// Lengths of all judge prompts.
    pub lengths: Lengths,
}

/// Token lengths of judge prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Judge prompts: two a pair.
    pub prompts: usize,
    /// Half of them are at most so long.
    pub median: usize,
    /// 95 % of them are.
    pub p95: usize,
    /// The longest.
    pub longest: usize,
    /// Pairs left out because a prompt was longer than the limit.
    pub dropped: usize,
}

impl Lengths {
    fn of(mut lengths: Vec<usize>, dropped: usize) -> Self {
        lengths.sort_unstable();
        let at = |share: f64| {
            lengths.get(((lengths.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(0)
        };
        Self { prompts: lengths.len(), median: at(0.5), p95: at(0.95), longest: at(1.0), dropped }
    }
}

impl TrainingData {
    /// Encodes train, validation and held-out pairs.
    ///
    /// # Errors
    /// When a pair can't be put to the judge, or is too long and may not be dropped.
    pub fn prepare(
        judge: &Judge,
        [train, validation, held_out]: [Vec<PreferencePair>; 3],
        hash: String,
        config: &DataConfig,
    ) -> Result<Self, TrainError> {
        let (mut lengths, mut dropped) = (Vec::new(), 0);
        let mut fit = |pairs| -> Result<Vec<PreparedPair>, TrainError> {
            let mut fitting = Vec::new();
            for prepared in judge.prepare(pairs)? {
                let tokens = prepared.prompts.each_ref().map(|prompt| prompt.len());
                let longest = tokens[0].max(tokens[1]);
                lengths.extend(tokens);
                match (longest > config.max_prompt_tokens, config.overlong) {
                    (false, _) => fitting.push(prepared),
                    (true, Overlong::Drop) => dropped += 1,
                    (true, Overlong::Error) => {
                        let (id, limit) = (prepared.pair.id, config.max_prompt_tokens);
                        return Err(TrainError::Overlong { id, tokens: longest, limit });
                    }
                }
            }
            Ok(fitting)
        };
        let (train, validation, held_out) = (fit(train)?, fit(validation)?, fit(held_out)?);
        Ok(Self { train, validation, held_out, hash, lengths: Lengths::of(lengths, dropped) })
    }
}

/// The indices of `count` rows in the order of epoch `epoch`: a permutation that depends on seed and epoch alone.
pub fn epoch_order(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(epoch);
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut generator);
    order
}

/// The rows of step `step` (from 0) when each step takes `rows` of `count`, epoch after epoch.
pub(super) fn step_rows(seed: u64, step: u64, rows: usize, count: usize) -> Vec<usize> {
    let first = step * rows as u64;
    let mut epoch = None;
    let places = (first..first + rows as u64).map(|place| {
        let number = place / count as u64;
        if epoch.as_ref().is_none_or(|(known, _)| *known != number) {
            epoch = Some((number, epoch_order(seed, number, count)));
        }
        epoch.as_ref().map_or(0, |(_, order)| order[(place % count as u64) as usize])
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_an_epoch_however_steps_cut_it() {
        let all: Vec<usize> = (0..10).flat_map(|step| step_rows(7, step, 6, 20)).collect();
        for epoch in all.chunks(20) {
            let mut seen = epoch.to_vec();
            seen.sort_unstable();
            assert_eq!(seen, (0..20).collect::<Vec<_>>());
        }
        assert_ne!(all[..20], all[20..40]);
        let finer: Vec<usize> = (0..30).flat_map(|step| step_rows(7, step, 2, 20)).collect();
        assert_eq!(all, finer);
    }
}
