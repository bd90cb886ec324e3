use serde::{Deserialize, Serialize};

use super::metrics::Row;

/// Under which names TensorBoard shows a run's numbers. `metrics.jsonl` and the page keep this project's own, which are TRL's
/// where TRL has one.
///
/// Only what means the same gets the other program's name; every other number keeps its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricNames {
    /// TRL's (1.16, GRPO trainer), and transformers' for the optimizer.
    #[default]
    Trl,
    /// verl's (0.9, PPO trainer).
    Verl,
}

/// Our name and verl's. Its `response_length/clip_ratio` counts responses of the greatest length, ours those that were cut off
/// there: they differ where a response ends of itself with its last possible token.
const VERL: &[(&str, &str)] = &[
    ("clip_ratio/dual_mean", "actor/pg_clipfrac_lower"),
    ("clip_ratio/region_mean", "actor/pg_clipfrac"),
    ("completions/clipped_ratio", "response_length/clip_ratio"),
    ("completions/max_length", "response_length/max"),
    ("completions/mean_length", "response_length/mean"),
    ("entropy", "actor/entropy"),
    ("grad_norm", "actor/grad_norm"),
    ("kl", "actor/kl_loss"),
    ("learning_rate", "actor/lr"),
    ("reward", "critic/score/mean"),
    ("step_time", "perf/time_per_step"),
];

impl MetricNames {
    /// The row as TensorBoard gets it.
    pub(super) fn rename(self, row: &Row) -> Row {
        let theirs = |name: &str| match self {
            Self::Trl => None,
            Self::Verl => VERL.iter().find(|(ours, _)| *ours == name).map(|(_, theirs)| *theirs),
        };
        let values = row.values.iter().map(|(name, value)| (theirs(name).unwrap_or(name).to_owned(), *value));
        Row { values: values.collect(), ..row.clone() }
    }
}
