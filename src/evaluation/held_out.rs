use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Expected, PairJudgement, Tally, Unread, Vote, compare};
use crate::report::Estimate;
use crate::reward::{Judgement, ScoreCounts, Standing};
use crate::rubric::FailureKind;

/// A held-out pair with what its judgements say.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedPair {
    /// The pair's task.
    pub task: String,
    /// Judgements of the chosen response.
    pub chosen: Vec<Judgement>,
    /// Judgements of the rejected response. Side by side each judgement stands in both lists.
    pub rejected: Vec<Judgement>,
    /// How the chosen response stands against the rejected one by all of them.
    pub standing: Standing,
    /// Side by side: how it stands where it was shown first, and where the other was.
    pub orders: Option<[Standing; 2]>,
    /// Expected scores of the chosen and of the rejected response, where they were read: then these were compared.
    pub expected: Option<[Vec<Expected>; 2]>,
}

impl JudgedPair {
    /// A pair whose responses were judged alone.
    pub fn alone(task: &str, [chosen, rejected]: [Vec<Judgement>; 2], vote: Vote) -> Self {
        let standing = vote.standing(&chosen, &rejected);
        Self { task: task.to_owned(), chosen, rejected, standing, orders: None, expected: None }
    }

    /// The same pair by expected scores: it stands as their means over each response's judgements stand.
    #[must_use]
    pub fn by_expected(self, expected: [Vec<Expected>; 2]) -> Self {
        let [chosen, rejected] = expected.each_ref().map(|side| Expected::mean(side));
        Self { standing: compare(chosen, rejected), expected: Some(expected), ..self }
    }

    /// A pair whose responses were judged side by side: with the chosen one first, then with the rejected one first.
    pub fn side_by_side(task: &str, orders: [&[PairJudgement]; 2], vote: Vote) -> Self {
        let side = |places: [usize; 2]| {
            let order = |(judgements, place): (&[PairJudgement], usize)| -> Vec<Judgement> {
                let one = |read: &PairJudgement| {
                    read.map_or_else(Judgement::Failed, |s| Judgement::Valid(s[place]))
                };
                judgements.iter().map(one).collect()
            };
            orders.into_iter().zip(places).flat_map(order).collect()
        };
        let (chosen, rejected) = (side([0, 1]), side([1, 0]));
        let (standing, orders) = vote.both_orders(orders);
        Self { task: task.to_owned(), chosen, rejected, standing, orders: Some(orders), expected: None }
    }
}

/// What swapping the order of two responses does to a judge's verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swaps {
    /// Pairs that were read in both orders.
    pub pairs: u64,
    /// Those that stand otherwise in the other order: another winner, or one where there was none.
    pub flips: u64,
    /// How the response shown first stood, over all orders of all pairs.
    pub first: Tally,
}

impl Swaps {
    fn count(&mut self, [ahead, behind]: [Standing; 2]) {
        let mirrored = match behind {
            Standing::Win => Standing::Loss,
            Standing::Loss => Standing::Win,
            same => same,
        };
        self.first.count(ahead);
        self.first.count(mirrored);
        if ahead != Standing::Unread && behind != Standing::Unread {
            self.pairs += 1;
            self.flips += u64::from(ahead != behind);
        }
    }
}

/// What the judgements of some held-out pairs came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// The pairs by standing.
    pub tally: Tally,
    /// Scores of the valid judgements.
    pub scores: ScoreCounts,
    /// Number of judgements.
    pub judgements: u64,
    /// Number of failed judgements by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Side by side: what the order did.
    pub swaps: Option<Swaps>,
    /// Expected scores read, and the sum of their masses.
    pub masses: (u64, f64),
}

impl Findings {
    /// Adds one pair.
    pub fn count(&mut self, pair: &JudgedPair) {
        self.tally.count(pair.standing);
        let scores = pair.chosen.iter().chain(&pair.rejected).filter_map(|judgement| judgement.score());
        scores.for_each(|score| self.scores.count(score));
        // Side by side, the rejected response's list repeats the same judgements.
        let others: &[Judgement] = if pair.orders.is_some() { &[] } else { &pair.rejected };
        for judgement in pair.chosen.iter().chain(others) {
            self.judgements += 1;
            if let Judgement::Failed(kind) = judgement {
                *self.failures.entry(*kind).or_default() += 1;
            }
        }
        for expected in pair.expected.iter().flatten().flatten() {
            self.masses = (self.masses.0 + 1, self.masses.1 + expected.mass);
        }
        if let Some(orders) = pair.orders {
            self.swaps.get_or_insert_default().count(orders);
        }
    }

    /// The numbers that tables print.
    pub fn summary(&self, unread: Unread) -> Summary {
        let rate = |count: u64| count as f64 / self.judgements as f64;
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        Summary {
            pairs: self.tally.pairs(),
            accuracy: self.tally.accuracy(unread),
            tie_rate: finite(self.tally.tie_rate()),
            unread_rate: finite(self.tally.unread_rate()),
            judgements: self.judgements,
            failure_rate: finite(rate(self.failures.values().sum())),
            failure_rates: self.failures.iter().map(|(kind, count)| (*kind, rate(*count))).collect(),
            score_mean: finite(self.scores.mean()),
            score_spread: finite(self.scores.spread()),
            score_entropy: finite(self.scores.entropy()),
            saturation: finite(self.scores.saturation()),
            flip_rate: self.swaps.and_then(|swaps| finite(swaps.flips as f64 / swaps.pairs as f64)),
            score_mass: finite(self.masses.1 / self.masses.0 as f64),
            first_share: self.swaps.and_then(|swaps| Some(swaps.first.accuracy(Unread::LeftOut)?.value)),
        }
    }
}

/// The numbers of some held-out pairs, as tables print and JSON holds them; `None` where there was nothing to count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Side by side: share of the pairs read in both orders that stand otherwise in the other order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip_rate: Option<f64>,
    /// Side by side: share of comparisons that the response shown first won, ties at half; 1/2 where the place means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_share: Option<f64>,
    /// Expected scores: mean probability that the judge goes on with a score at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_mass: Option<f64>,
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
