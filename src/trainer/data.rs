use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::overlong::{Fit, fit};
use super::{TrainConfig, TrainError};
use crate::evaluation::{Judge, Mode, PreparedPair};
use crate::preference::PreferencePair;

/// The pairs of a run, both judge prompts of each encoded.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// What the policy learns from.
    pub train: Vec<PreparedPair>,
    /// Characters that were cut from the beginning of each training pair's conversation.
    pub cut: Vec<usize>,
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
    /// Pairs whose conversation was cut at its beginning because a prompt was longer than the limit.
    #[serde(default)]
    pub truncated: usize,
}

impl Lengths {
    fn of(self, mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |share: f64| {
            lengths.get(((lengths.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(0)
        };
        Self { prompts: lengths.len(), median: at(0.5), p95: at(0.95), longest: at(1.0), ..self }
    }
}

impl TrainingData {
    /// Encodes the pairs to learn from, and as many of the rest as evaluation asks for: the first that fit, validation before
    /// held-out. Whatever judges held-out pairs judges these.
    ///
    /// # Errors
    /// When a pair can't be put to the judge, or is too long and may be neither dropped nor cut.
    pub fn prepare(
        judge: &Judge,
        [train, rest]: [Vec<PreferencePair>; 2],
        hash: String,
        config: &TrainConfig,
    ) -> Result<Self, TrainError> {
        let TrainConfig { data, evaluation, .. } = config;
        let mut lengths = Lengths::default();
        let mut tokens = Vec::new();
        let mut fitting = |pairs: Vec<PreferencePair>, mode: Mode, most: usize| {
            let mut fitting: Vec<(PreparedPair, usize)> = Vec::with_capacity(pairs.len().min(most));
            for pair in pairs {
                if fitting.len() == most {
                    break;
                }
                let (prepared, cut) = match fit(judge, (pair, mode), data.max_prompt_tokens, data.overlong)? {
                    Fit::Whole(prepared) => (prepared, 0),
                    Fit::Cut(prepared, cut) => (prepared, cut),
                    Fit::Left => {
                        lengths.dropped += 1;
                        continue;
                    }
                };
                lengths.truncated += usize::from(cut > 0);
                tokens.extend(prepared.prompts.each_ref().map(|prompt| prompt.len()));
                fitting.push((prepared, cut));
            }
            Ok::<_, TrainError>(fitting)
        };
        let (train, cut) = fitting(train, Mode::Pointwise, usize::MAX)?.into_iter().unzip();
        let most = evaluation.validation_pairs + evaluation.held_out_pairs;
        let rest = fitting(rest, evaluation.mode, most)?;
        let mut validation: Vec<PreparedPair> = rest.into_iter().map(|(prepared, _)| prepared).collect();
        let held_out = validation.split_off(validation.len().min(evaluation.validation_pairs));
        Ok(Self { train, cut, validation, held_out, hash, lengths: lengths.of(tokens) })
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
