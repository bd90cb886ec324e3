use std::collections::BTreeMap;

use super::{Judgement, PairRewards, Standing};
use crate::rubric::{FailureKind, Score};

/// How often each score was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScoreCounts(BTreeMap<Score, u64>);

impl ScoreCounts {
    /// Counts one score.
    pub fn count(&mut self, score: Score) {
        *self.0.entry(score).or_default() += 1;
    }

    /// Number of scores.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each score that occurs with its count, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Score, u64)> {
        self.0.iter().map(|(score, count)| (*score, *count))
    }

    /// Mean score; NaN where there are none.
    pub fn mean(&self) -> f64 {
        self.weighted(|score| score.value())
    }

    /// Population standard deviation of the scores; NaN where there are none.
    pub fn spread(&self) -> f64 {
        let mean = self.mean();
        self.weighted(|score| (score.value() - mean).powi(2)).sqrt()
    }

    /// Saturation: share of scores at either end of the scale; NaN where there are none.
    pub fn saturation(&self) -> f64 {
        self.weighted(|score| f64::from(score == Score::LOWEST || score == Score::HIGHEST))
    }

    /// Entropy of the scores' distribution, nats; 0 where all are equal, NaN where there are none.
    pub fn entropy(&self) -> f64 {
        let total = self.total() as f64;
        // A sum of non-negative terms: -0 would read oddly in a table.
        self.weighted(|score| (total / self.0[&score] as f64).ln())
    }

    fn weighted(&self, value: impl Fn(Score) -> f64) -> f64 {
        self.iter().map(|(score, count)| value(score) * count as f64).sum::<f64>() / self.total() as f64
    }
}

/// What the judgements of several pairs came to, for metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RewardStats {
    /// Number of pairs by standing.
    pub standings: BTreeMap<Standing, u64>,
    /// Scores of the valid judgements.
    pub scores: ScoreCounts,
    /// Number of failed judgements by kind, the masked ones included.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Number of judgements without a reward.
    pub masked: u64,
    /// Number of judgements with a reward.
    pub rewarded: u64,
    /// Sum of all rewards.
    pub reward_sum: f64,
}

impl RewardStats {
    /// Adds a pair: the judgements given to [`super::par`] and what came of them.
    pub fn count(&mut self, chosen: &[Judgement], rejected: &[Judgement], rewards: &PairRewards) {
        *self.standings.entry(rewards.standing).or_default() += 1;
        for judgement in chosen.iter().chain(rejected) {
            match judgement {
                Judgement::Valid(score) => self.scores.count(*score),
                Judgement::Failed(kind) => *self.failures.entry(*kind).or_default() += 1,
            }
        }
        for outcome in rewards.chosen.iter().chain(&rewards.rejected) {
            match outcome.reward() {
                Some(reward) => {
                    self.rewarded += 1;
                    self.reward_sum += reward.0;
                }
                None => self.masked += 1,
            }
        }
    }

    /// Number of judgements.
    pub fn judgements(&self) -> u64 {
        self.rewarded + self.masked
    }

    /// Mean reward over the judgements that have one; NaN where there are none.
    pub fn mean_reward(&self) -> f64 {
        self.reward_sum / self.rewarded as f64
    }

    /// Share of judgements without a verdict; NaN where there are no judgements.
    pub fn failure_rate(&self) -> f64 {
        self.failures.values().sum::<u64>() as f64 / self.judgements() as f64
    }

    /// Share of pairs of this standing; NaN where there are no pairs.
    pub fn share(&self, standing: Standing) -> f64 {
        let count = self.standings.get(&standing).copied().unwrap_or_default();
        count as f64 / self.standings.values().sum::<u64>() as f64
    }
}
