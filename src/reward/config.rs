use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::SoftOverlong;

/// The margin function f: what a judgement earns for a margin d > 0 over the other side's mean, in score points. PAR's
/// paper grades it without giving the numbers; the defaults are this project's own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Margin {
    /// `small` for d up to `step`, `large` beyond it (default: a clear win counts a little more than a narrow one, and the
    /// extremes of the scale not more than that).
    Graded {
        /// Margin that is still small, score points, above 0, default 2.
        #[serde(default = "default_step")]
        step: f64,
        /// Reward of a small margin, above 0, default 1.2.
        #[serde(default = "default_small")]
        small: f64,
        /// Reward of a larger margin, at least `small`, default 1.4.
        #[serde(default = "default_large")]
        large: f64,
    },
    /// The same for every margin.
    Constant {
        /// Reward of any margin, above 0, default 1.2.
        #[serde(default = "default_small")]
        value: f64,
    },
    /// `slope * d`, at most `cap`.
    Linear {
        /// Reward of a score point, above 0, default 0.7: the cap is reached where `graded` takes its step.
        #[serde(default = "default_slope")]
        slope: f64,
        /// Highest reward, above 0, default 1.4.
        #[serde(default = "default_large")]
        cap: f64,
    },
}

fn default_step() -> f64 {
    2.0
}

fn default_small() -> f64 {
    1.2
}

fn default_large() -> f64 {
    1.4
}

fn default_slope() -> f64 {
    0.7
}

impl Default for Margin {
    fn default() -> Self {
        Self::Graded { step: default_step(), small: default_small(), large: default_large() }
    }
}

impl Margin {
    /// f(d); 0 where d is not above 0.
    pub(super) fn reward(self, d: f64) -> f64 {
        if d <= 0.0 {
            return 0.0;
        }
        match self {
            Self::Graded { step, small, large } => {
                if d <= step {
                    small
                } else {
                    large
                }
            }
            Self::Constant { value } => value,
            Self::Linear { slope, cap } => (slope * d).min(cap),
        }
    }
}

/// What a judgement without a verdict earns; a valid one earns 0 here. This project's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FormatReward {
    /// The six tags are right, but the score is invalid or out of range, a part is empty or holds a malformed line, or text
    /// stands outside the parts. At most 0, default -1.
    pub bad_content: f64,
    /// A tag is missing, doubled or out of order, or nothing was written. At most `bad_content`, default -1.5.
    pub broken_tags: f64,
}

impl Default for FormatReward {
    fn default() -> Self {
        Self { bad_content: -1.0, broken_tags: -1.5 }
    }
}

/// What becomes of a judgement that reached its token limit without a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutOff {
    /// It earns `broken_tags` (default: a masked runaway would never be pushed back).
    #[default]
    Penalised,
    /// It has no reward and leaves its group.
    Masked,
}

/// Settings of [`super::par`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParConfig {
    /// The margin function: `{ kind = "graded" | "constant" | "linear", … }`, default `graded`.
    pub margin: Margin,
    /// Rewards for failing the output grammar.
    pub format: FormatReward,
    /// `penalised` (default) or `masked`.
    pub cut_off: CutOff,
    /// What long judgements lose beside that; nothing by default.
    pub overlong: SoftOverlong,
}

/// A setting of [`ParConfig`] is out of its range.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{setting} = {value}: it must be {range}")]
pub struct ParConfigError {
    /// The setting's path below the reward's own.
    pub setting: &'static str,
    /// Its value.
    pub value: f64,
    /// The range that it must keep to.
    pub range: &'static str,
}

impl ParConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// Names the first setting that is out of its range.
    pub fn check(&self) -> Result<(), ParConfigError> {
        let positive = "a finite number above 0";
        match self.margin {
            Margin::Graded { step, small, large } => {
                within("margin.step", step, step > 0.0, positive)?;
                within("margin.small", small, small > 0.0, positive)?;
                within("margin.large", large, large >= small, "finite and at least margin.small")?;
            }
            Margin::Constant { value } => within("margin.value", value, value > 0.0, positive)?,
            Margin::Linear { slope, cap } => {
                within("margin.slope", slope, slope > 0.0, positive)?;
                within("margin.cap", cap, cap > 0.0, positive)?;
            }
        }
        let FormatReward { bad_content, broken_tags } = self.format;
        within("format.bad_content", bad_content, bad_content <= 0.0, "a finite number not above 0")?;
        let order = "finite and not above format.bad_content";
        within("format.broken_tags", broken_tags, broken_tags <= bad_content, order)?;
        let SoftOverlong { cache, limit, most } = self.overlong;
        within("overlong.most", most, most >= 0.0, "a finite number not below 0")?;
        within("overlong.cache", cache as f64, cache <= limit, "at most overlong.limit")
    }
}

fn within(setting: &'static str, value: f64, holds: bool, range: &'static str) -> Result<(), ParConfigError> {
    if holds && value.is_finite() { Ok(()) } else { Err(ParConfigError { setting, value, range }) }
}
