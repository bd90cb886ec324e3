use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::report::{Estimate, wilson};
use crate::reward::Standing;

/// What a pair is worth when one of its sides has no score. Such pairs are counted apart whatever is chosen here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unread {
    /// The pair is lost (default: a judge never gains by staying silent).
    #[default]
    Wrong,
    /// The pair earns one half, as RewardBench's generative harness gives it.
    Half,
    /// The pair leaves the denominator.
    LeftOut,
}

impl Unread {
    /// What a pair of this standing earns: 1 for a win, 1/2 for a tie, 0 for a loss; `None` where it does not count.
    pub fn credit(self, standing: Standing) -> Option<f64> {
        match (standing, self) {
            (Standing::Win, _) => Some(1.0),
            (Standing::Tie, _) | (Standing::Unread, Self::Half) => Some(0.5),
            (Standing::Loss, _) | (Standing::Unread, Self::Wrong) => Some(0.0),
            (Standing::Unread, Self::LeftOut) => None,
        }
    }
}

/// How a pair stands by the scores of its two sides; a missing or NaN score leaves it unread.
pub fn compare(chosen: Option<f64>, rejected: Option<f64>) -> Standing {
    match chosen.zip(rejected).and_then(|(chosen, rejected)| chosen.partial_cmp(&rejected)) {
        Some(Ordering::Greater) => Standing::Win,
        Some(Ordering::Equal) => Standing::Tie,
        Some(Ordering::Less) => Standing::Loss,
        None => Standing::Unread,
    }
}

/// Counts of pairs by how the chosen response fared against the rejected one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The chosen response scored strictly higher.
    pub wins: u64,
    /// Both scored the same.
    pub ties: u64,
    /// The rejected response scored strictly higher.
    pub losses: u64,
    /// At least one side had no score.
    pub unread: u64,
}

impl Tally {
    /// Counts one pair.
    pub fn count(&mut self, standing: Standing) {
        match standing {
            Standing::Win => self.wins += 1,
            Standing::Tie => self.ties += 1,
            Standing::Loss => self.losses += 1,
            Standing::Unread => self.unread += 1,
        }
    }

    /// Number of pairs counted, the unread ones included.
    pub fn pairs(&self) -> u64 {
        self.wins + self.ties + self.losses + self.unread
    }

    /// Pairwise accuracy, ties at half, with Wilson's 95 % interval; `None` where no pair counts.
    pub fn accuracy(&self, unread: Unread) -> Option<Estimate> {
        let worth = unread.credit(Standing::Unread);
        let counted = self.pairs() - if worth.is_none() { self.unread } else { 0 };
        let earned = self.wins as f64 + 0.5 * self.ties as f64 + worth.unwrap_or(0.0) * self.unread as f64;
        wilson(earned, counted).ok()
    }

    /// Share of pairs with equal scores; NaN where there are no pairs.
    pub fn tie_rate(&self) -> f64 {
        self.ties as f64 / self.pairs() as f64
    }

    /// Share of pairs in which a side had no score; NaN where there are no pairs.
    pub fn unread_rate(&self) -> f64 {
        self.unread as f64 / self.pairs() as f64
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.wins += other.wins;
        self.ties += other.ties;
        self.losses += other.losses;
        self.unread += other.unread;
    }
}
