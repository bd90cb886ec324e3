use serde::Serialize;
use serde_json::{Map, Value};

use super::{Computer, Limits, Machine, Program};

/// One measured piece of work.
#[derive(Clone, Debug, Serialize)]
pub struct Repeat {
    /// How long it took.
    pub seconds: f64,
    /// Tokens trained on, or drawn.
    pub tokens: usize,
    /// Load average just before.
    pub load: f64,
    /// Limits just before.
    pub limits: Option<Limits>,
    /// Share of the limit on multiply-adds.
    pub of_flops: Option<f64>,
    /// Share of the limit on reading, the weights read once a step.
    pub of_read: Option<f64>,
    /// Anything else, such as the loss.
    pub more: Map<String, Value>,
}

/// A median and what it lies between.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Middle {
    /// The median.
    pub median: f64,
    /// The lowest observation.
    pub low: f64,
    /// The highest observation.
    pub high: f64,
    /// Probability that the true median lies between them: 1 - 2^(1 - n).
    pub coverage: f64,
}

/// One side's repeats.
#[derive(Clone, Debug, Serialize)]
pub struct PeerRecord {
    /// How it was started.
    pub command: String,
    /// What it said of itself when it was ready.
    pub ready: Value,
    /// Its repeats, each taken right after one of ours.
    pub repeats: Vec<Repeat>,
    /// Tokens a second.
    pub tokens_per_second: Middle,
    /// Our tokens a second over its own, pair by pair.
    pub ratio: Middle,
    /// Its peak memory over ours.
    pub memory_ratio: Option<f64>,
}

/// What a benchmark leaves behind.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// `train_step` or `decode`.
    pub what: &'static str,
    /// Shape and settings.
    pub facts: Map<String, Value>,
    /// Where.
    pub machine: Machine,
    /// The device that computed.
    pub device: Computer,
    /// What was run.
    pub program: Program,
    /// Our repeats.
    pub repeats: Vec<Repeat>,
    /// Tokens a second.
    pub tokens_per_second: Middle,
    /// Share of the limit on multiply-adds.
    pub of_flops: Middle,
    /// Share of the limit on reading.
    pub of_read: Middle,
    /// Most memory the process ever held, bytes.
    pub peak_bytes: u64,
    /// The other sides.
    pub peers: Vec<PeerRecord>,
}

impl Middle {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        assert!(n > 0, "a median needs a value");
        let median = 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]);
        Self { median, low: sorted[0], high: sorted[n - 1], coverage: 1.0 - 0.5f64.powi(n as i32 - 1) }
    }
}

impl Repeat {
    /// Tokens a second.
    pub fn speed(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_median_between_the_extremes() {
        let middle = Middle::of([5.0, 1.0, 2.0, 9.0, 4.0]);
        assert_eq!(middle, Middle { median: 4.0, low: 1.0, high: 9.0, coverage: 0.9375 });
        assert_eq!(Middle::of([3.0, 1.0]).median, 2.0);
    }
}
