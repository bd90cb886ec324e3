use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// What a pair is worth when one of its sides has no score. It is counted apart whatever is chosen here.
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

/// A 95 % interval of a share, both ends within 0..=1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson's 95 % score interval (Wilson 1927) of `successes` out of `trials`; halves are allowed and make the interval
/// too wide rather than too narrow. No trials: the whole of 0..=1.
pub fn wilson(successes: f64, trials: u64) -> Interval {
    const Z: f64 = 1.959_963_984_540_054;
    if trials == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let n = trials as f64;
    let share = successes / n;
    let shrink = 1.0 + Z * Z / n;
    let centre = (share + Z * Z / (2.0 * n)) / shrink;
    let half = Z / shrink * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval { low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
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
    /// Counts one pair from the scores of its two sides; a missing or NaN score makes the pair unread.
    pub fn count(&mut self, chosen: Option<f64>, rejected: Option<f64>) {
        match chosen.zip(rejected).and_then(|(c, r)| c.partial_cmp(&r)) {
            Some(Ordering::Greater) => self.wins += 1,
            Some(Ordering::Equal) => self.ties += 1,
            Some(Ordering::Less) => self.losses += 1,
            None => self.unread += 1,
        }
    }

    /// Number of pairs counted, the unread ones included.
    pub fn pairs(&self) -> u64 {
        self.wins + self.ties + self.losses + self.unread
    }

    /// Accuracy with ties at half and its 95 % interval.
    pub fn accuracy(&self, unread: Unread) -> Accuracy {
        let (bonus, left_out) = match unread {
            Unread::Wrong => (0.0, 0),
            Unread::Half => (0.5 * self.unread as f64, 0),
            Unread::LeftOut => (0.0, self.unread),
        };
        let judged = self.pairs() - left_out;
        let earned = self.wins as f64 + 0.5 * self.ties as f64 + bonus;
        let share = |count: f64, of: u64| if of == 0 { f64::NAN } else { count / of as f64 };
        Accuracy {
            pairs: self.pairs(),
            value: share(earned, judged),
            interval: wilson(earned, judged),
            tie_rate: share(self.ties as f64, self.pairs()),
            unread_rate: share(self.unread as f64, self.pairs()),
        }
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

/// What a table prints of a [`Tally`]. All shares are NaN where there was nothing to count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Number of pairs, the unread ones included.
    pub pairs: u64,
    /// Share of pairs in which the chosen response scored higher, ties at half.
    pub value: f64,
    /// Wilson's 95 % interval of `value`.
    pub interval: Interval,
    /// Share of pairs with equal scores.
    pub tie_rate: f64,
    /// Share of pairs in which a side had no score.
    pub unread_rate: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_equals_published_values() {
        // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (successes, trials, low, high) in [
            (81.0, 263, 0.2553, 0.3662),
            (15.0, 148, 0.0624, 0.1605),
            (0.0, 20, 0.0, 0.1611),
            (1.0, 29, 0.0061, 0.1718),
        ] {
            let interval = wilson(successes, trials);
            assert!((interval.low - low).abs() < 5e-5 && (interval.high - high).abs() < 5e-5, "{interval:?}");
        }
    }

    #[test]
    fn ties_earn_half_and_unread_pairs_what_is_set() {
        let mut tally = Tally::default();
        tally.count(Some(2.0), Some(1.0));
        tally.count(Some(1.0), Some(1.0));
        tally.count(None, Some(1.0));
        tally.count(Some(f64::NAN), Some(1.0));
        assert_eq!(tally, Tally { wins: 1, ties: 1, losses: 0, unread: 2 });
        assert_eq!(tally.accuracy(Unread::Wrong).value, 1.5 / 4.0);
        assert_eq!(tally.accuracy(Unread::Half).value, 2.5 / 4.0);
        assert_eq!(tally.accuracy(Unread::LeftOut).value, 1.5 / 2.0);
        assert_eq!(tally.accuracy(Unread::Wrong).unread_rate, 0.5);
    }

    #[test]
    fn nothing_counted_is_not_an_accuracy() {
        let accuracy = Tally::default().accuracy(Unread::Wrong);
        assert!(accuracy.value.is_nan());
        assert_eq!(accuracy.interval, Interval { low: 0.0, high: 1.0 });
    }
}
