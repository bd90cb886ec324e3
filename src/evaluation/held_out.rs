use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Tally, Unread};
use crate::report::Estimate;
use crate::reward::{Judgement, ScoreCounts, Standing, standing};
use crate::rubric::FailureKind;

/// A held-out pair with the judgements of its two responses, each judged alone. One judgement a side is plain pointwise
/// scoring; with several, the means over the valid ones are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedPair {
    /// The pair's task.
    pub task: String,
    /// Judgements of the chosen response.
    pub chosen: Vec<Judgement>,
    /// Judgements of the rejected response.
    pub rejected: Vec<Judgement>,
}

impl JudgedPair {
    /// How the chosen response stands against the rejected one.
    pub fn standing(&self) -> Standing {
        standing(&self.chosen, &self.rejected)
    }
}

/// What the judgements of some held-out pairs came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// The pairs by standing.
    pub tally: Tally,
    /// Scores of the valid judgements.
    pub scores: ScoreCounts,
    /// Number of failed judgements by kind.
    pub failures: BTreeMap<FailureKind, u64>,
}

impl Findings {
    /// Adds one pair.
    pub fn count(&mut self, pair: &JudgedPair) {
        self.tally.count(pair.standing());
        for judgement in pair.chosen.iter().chain(&pair.rejected) {
            match judgement {
                Judgement::Valid(score) => self.scores.count(*score),
                Judgement::Failed(kind) => *self.failures.entry(*kind).or_default() += 1,
            }
        }
    }

    /// The numbers that tables print.
    pub fn summary(&self, unread: Unread) -> Summary {
        let judgements = self.scores.total() + self.failures.values().sum::<u64>();
        let rate = |count: u64| count as f64 / judgements as f64;
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        Summary {
            pairs: self.tally.pairs(),
            accuracy: self.tally.accuracy(unread),
            tie_rate: finite(self.tally.tie_rate()),
            unread_rate: finite(self.tally.unread_rate()),
            judgements,
            failure_rate: finite(rate(self.failures.values().sum())),
            failure_rates: self.failures.iter().map(|(kind, count)| (*kind, rate(*count))).collect(),
            score_mean: finite(self.scores.mean()),
            score_spread: finite(self.scores.spread()),
            score_entropy: finite(self.scores.entropy()),
            saturation: finite(self.scores.saturation()),
        }
    }
}

/// The numbers of some held-out pairs, as tables print and JSON holds them; `None` where there was nothing to count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Number of pairs.
    pub pairs: u64,
    /// Pairwise accuracy with ties at half and Wilson's 95 % interval.
    pub accuracy: Option<Estimate>,
    /// Share of pairs with equal scores.
    pub tie_rate: Option<f64>,
    /// Share of pairs in which a side had no valid judgement.
    pub unread_rate: Option<f64>,
    /// Number of judgements.
    pub judgements: u64,
    /// Share of judgements without a verdict.
    pub failure_rate: Option<f64>,
    /// The same by kind; kinds that did not occur are absent.
    pub failure_rates: BTreeMap<FailureKind, f64>,
    /// Mean of the valid scores.
    pub score_mean: Option<f64>,
    /// Population standard deviation of the valid scores.
    pub score_spread: Option<f64>,
    /// Entropy of the valid scores, nats.
    pub score_entropy: Option<f64>,
    /// Share of valid scores at either end of the scale.
    pub saturation: Option<f64>,
}

/// Findings over all held-out pairs, and for each task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldOut {
    /// All pairs.
    pub overall: Findings,
    /// The same pairs by task.
    pub per_task: BTreeMap<String, Findings>,
}

impl HeldOut {
    /// Counts pairs of which only the standing is known: judges that write nothing.
    pub fn of_standings<'a>(pairs: impl IntoIterator<Item = (&'a str, Standing)>) -> Self {
        let mut held_out = Self::default();
        for (task, standing) in pairs {
            held_out.overall.tally.count(standing);
            held_out.per_task.entry(task.to_owned()).or_default().tally.count(standing);
        }
        held_out
    }

    /// Counts every pair once overall and once in its task.
    pub fn of<'a>(pairs: impl IntoIterator<Item = &'a JudgedPair>) -> Self {
        let mut held_out = Self::default();
        for pair in pairs {
            held_out.overall.count(pair);
            held_out.per_task.entry(pair.task.clone()).or_default().count(pair);
        }
        held_out
    }
}
