use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{CutOff, Judgement, ParConfig};
use crate::rubric::{FailureKind, Score};

/// What one judgement earned.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reward(pub f64);

/// What becomes of one judgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It has a reward.
    Rewarded(Reward),
    /// It has none, and leaves its group.
    Masked(FailureKind),
}

impl Outcome {
    /// The reward, where there is one.
    pub fn reward(self) -> Option<Reward> {
        match self {
            Self::Rewarded(reward) => Some(reward),
            Self::Masked(_) => None,
        }
    }
}

/// How the chosen response stands against the rejected one, by their mean scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The chosen response's mean is higher.
    Win,
    /// The means are equal.
    Tie,
    /// The rejected response's mean is higher.
    Loss,
    /// One side or both has no valid judgement: the pair gave format rewards only.
    Unread,
}

/// The outcomes of a pair's judgements, in the order in which they were given, and what metrics want to know.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRewards {
    /// One outcome for each judgement of the chosen response.
    pub chosen: Vec<Outcome>,
    /// One outcome for each judgement of the rejected response.
    pub rejected: Vec<Outcome>,
    /// Mean score of the chosen response's valid judgements.
    pub chosen_mean: Option<f64>,
    /// Mean score of the rejected response's valid judgements.
    pub rejected_mean: Option<f64>,
    /// How the means stand.
    pub standing: Standing,
}

/// Preference-aware rewards of a pair's judgements (PaTaRM, arXiv 2510.24235). With the means m over the valid judgements
/// of each side,
///
/// ```text
/// R(s_c) = 1[s_c > m_r] f(s_c - m_r)        R(s_r) = 1[s_r < m_c] f(m_c - s_r)
/// ```
///
/// plus the format reward, which is 0 for a valid judgement and all that a failed one gets. Where one side has no valid
/// judgement, the other's valid ones earn 0. Margins are exact up to one rounding (scores are whole tenths), so rewards
/// depend on differences of scores alone.
pub fn par(chosen: &[Judgement], rejected: &[Judgement], config: &ParConfig) -> PairRewards {
    let (chosen_mean, rejected_mean) = (Mean::of(chosen), Mean::of(rejected));
    let above = |score| rejected_mean.map_or(0.0, |mean| mean.below(score));
    let below = |score| chosen_mean.map_or(0.0, |mean| -mean.below(score));
    let outcomes = |side: &[Judgement], margin: &dyn Fn(Score) -> f64| {
        side.iter().map(|judgement| outcome(*judgement, margin, config)).collect()
    };
    PairRewards {
        chosen: outcomes(chosen, &above),
        rejected: outcomes(rejected, &below),
        chosen_mean: chosen_mean.map(Mean::value),
        rejected_mean: rejected_mean.map(Mean::value),
        standing: standing(chosen, rejected),
    }
}

/// How the chosen response stands against the rejected one: the means over the valid judgements, compared exactly.
pub fn standing(chosen: &[Judgement], rejected: &[Judgement]) -> Standing {
    let Some((chosen, rejected)) = Mean::of(chosen).zip(Mean::of(rejected)) else { return Standing::Unread };
    match (chosen.tenths * rejected.count).cmp(&(rejected.tenths * chosen.count)) {
        Ordering::Greater => Standing::Win,
        Ordering::Equal => Standing::Tie,
        Ordering::Less => Standing::Loss,
    }
}

/// The mean of some scores, kept as a fraction of whole tenths.
#[derive(Clone, Copy)]
struct Mean {
    tenths: i64,
    count: i64,
}

impl Mean {
    /// The mean over the valid judgements; `None` where there are none.
    fn of(side: &[Judgement]) -> Option<Self> {
        let scores = side.iter().filter_map(|judgement| judgement.score());
        let add = |mean: Self, score: Score| Self {
            tenths: mean.tenths + i64::from(score.tenths()),
            count: mean.count + 1,
        };
        Some(scores.fold(Self { tenths: 0, count: 0 }, add)).filter(|mean| mean.count > 0)
    }

    fn value(self) -> f64 {
        self.tenths as f64 / (10 * self.count) as f64
    }

    /// How far the mean lies below `score`, in points: a quotient of exact integers, rounded once.
    fn below(self, score: Score) -> f64 {
        (i64::from(score.tenths()) * self.count - self.tenths) as f64 / (10 * self.count) as f64
    }
}

fn outcome(judgement: Judgement, margin: &dyn Fn(Score) -> f64, config: &ParConfig) -> Outcome {
    use FailureKind::*;
    let reward = match judgement {
        Judgement::Valid(score) => config.margin.reward(margin(score)),
        Judgement::Failed(CutOff) if config.cut_off == self::CutOff::Masked => {
            return Outcome::Masked(CutOff);
        }
        Judgement::Failed(Silent | CutOff | MissingTag | Doubled | WrongOrder) => config.format.broken_tags,
        Judgement::Failed(StrayText | EmptyPart | BadLine | InvalidScore | ScoreCount | OutOfRange) => {
            config.format.bad_content
        }
    };
    Outcome::Rewarded(Reward(reward))
}
