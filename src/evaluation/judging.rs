use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::Sampling;
use crate::reward::{self, Judgement, Standing};
use crate::rubric::{FailureKind, Score};

/// What the judge is shown at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One response, which gets one score.
    #[default]
    Pointwise,
    /// Both responses of a pair side by side, a score for each; every pair is judged in both orders.
    Pairwise,
}

/// How several judgements become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vote {
    /// The mean of the valid scores.
    #[default]
    Mean,
    /// The most frequent score, of several the mean of these; side by side the response that more judgements prefer.
    Majority,
}

/// What number a judgement of one response gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreReading {
    /// The score that it writes.
    #[default]
    Parsed,
    /// The mean over all scores that it could have written there, each by its probability.
    Expected,
}

/// How responses are judged for a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Judging {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Judgements of each response, or of each order of a pair.
    pub judgements: u32,
    /// Keys the draws.
    pub seed: u64,
    /// What the judge is shown at a time.
    pub mode: Mode,
    /// How several judgements become one.
    pub vote: Vote,
}

/// What a judgement of two responses says of them, in the order shown.
pub type PairJudgement = Result<[Score; 2], FailureKind>;

impl Vote {
    /// How the chosen response stands against the rejected one, each judged alone; exact.
    pub fn standing(self, chosen: &[Judgement], rejected: &[Judgement]) -> Standing {
        reward::standing(&self.heard(chosen), &self.heard(rejected))
    }

    /// The one score that a response's judgements come to; none where none is valid.
    pub fn score(self, judgements: &[Judgement]) -> Option<f64> {
        let heard = self.heard(judgements);
        let tenths: Vec<u32> =
            heard.iter().filter_map(|judgement| Some(u32::from(judgement.score()?.tenths()))).collect();
        let sum = f64::from(tenths.iter().sum::<u32>());
        (!tenths.is_empty()).then(|| sum / (10 * tenths.len()) as f64)
    }

    /// The judgements whose mean is the outcome: all, or one of each of the most frequent scores.
    fn heard(self, judgements: &[Judgement]) -> Vec<Judgement> {
        if self == Self::Mean {
            return judgements.to_vec();
        }
        let mut counts: BTreeMap<Score, usize> = BTreeMap::new();
        for score in judgements.iter().filter_map(|judgement| judgement.score()) {
            *counts.entry(score).or_default() += 1;
        }
        let most = counts.values().copied().max();
        let modes = counts.into_iter().filter(|(_, count)| Some(*count) == most);
        modes.map(|(score, _)| Judgement::Valid(score)).collect()
    }

    /// How the response shown first leans away from the other, by the judgements of one order.
    fn lean(self, judgements: &[PairJudgement]) -> Option<Lean> {
        let margins: Vec<i64> = judgements.iter().flatten().map(|scores| margin(*scores)).collect();
        if margins.is_empty() {
            return None;
        }
        Some(match self {
            Self::Mean => Lean { sum: margins.iter().sum(), count: margins.len() as i64 },
            Self::Majority => {
                Lean { sum: margins.iter().map(|m| m.signum()).sum::<i64>().signum(), count: 1 }
            }
        })
    }

    /// How a pair stands that was judged side by side, with the chosen response first and then with the rejected one first:
    /// in each order alone, and by the mean of both orders, each of which counts alike. A pair with an order that has no valid
    /// judgement is unread.
    pub fn both_orders(self, orders: [&[PairJudgement]; 2]) -> (Standing, [Standing; 2]) {
        let [ahead, behind] = orders.map(|judgements| self.lean(judgements));
        let behind = behind.map(|lean| Lean { sum: -lean.sum, ..lean });
        let both = ahead.zip(behind).map(|(a, b)| Lean { sum: a.sum * b.count + b.sum * a.count, count: 1 });
        (standing(both), [standing(ahead), standing(behind)])
    }
}

/// A mean margin as a fraction of whole tenths.
#[derive(Clone, Copy)]
struct Lean {
    sum: i64,
    count: i64,
}

fn margin([first, second]: [Score; 2]) -> i64 {
    i64::from(first.tenths()) - i64::from(second.tenths())
}

fn standing(lean: Option<Lean>) -> Standing {
    match lean.map(|lean| lean.sum.cmp(&0)) {
        Some(Ordering::Greater) => Standing::Win,
        Some(Ordering::Equal) => Standing::Tie,
        Some(Ordering::Less) => Standing::Loss,
        None => Standing::Unread,
    }
}
