use serde::{Deserialize, Serialize};

use super::{Moments, OptimizerError, Schedule, WeightRounding};

/// Settings of AdamW, the clip and the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Largest learning rate, above 0. Default 1e-6 (TRL's GRPO default).
    pub lr: f64,
    /// Decay of the first moment, 0 to below 1. Default 0.9 (torch).
    pub beta1: f64,
    /// Decay of the second moment, 0 to below 1. Default 0.999 (torch).
    pub beta2: f64,
    /// Added to the root of the second moment, above 0. Default 1e-8 (torch).
    pub eps: f64,
    /// Decoupled weight decay of matrices, at least 0. Default 0 (TRL; torch has 0.01).
    pub weight_decay: f64,
    /// Global gradient norm above which gradients are scaled down; 0 never clips. Default 1 (transformers).
    pub max_norm: f64,
    /// How weights become bf16: `nearest` (default: of a master copy in f32) or `stochastic` (without one; torchao's
    /// `bf16_stochastic_round`). Both phases of a run round alike.
    pub rounding: WeightRounding,
    /// How the two moments are kept: `f32` (default) or `8-bit` (bitsandbytes' and torchao's AdamW8bit; Dettmers et al., arXiv
    /// 2110.02861). The same in both phases of a run.
    pub moments: Moments,
    /// How the learning rate changes.
    pub schedule: Schedule,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            max_norm: 1.0,
            rounding: WeightRounding::default(),
            moments: Moments::default(),
            schedule: Schedule::default(),
        }
    }
}

impl OptimizerConfig {
    /// Checks every setting's range.
    ///
    /// # Errors
    /// The first setting out of range.
    pub fn check(&self) -> Result<(), OptimizerError> {
        let fraction = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        for (setting, value, fits, range) in [
            ("lr", self.lr, positive(self.lr), "above 0"),
            ("beta1", self.beta1, fraction(self.beta1), "at least 0 and below 1"),
            ("beta2", self.beta2, fraction(self.beta2), "at least 0 and below 1"),
            ("eps", self.eps, positive(self.eps), "above 0"),
            ("weight_decay", self.weight_decay, not_negative(self.weight_decay), "at least 0"),
            ("max_norm", self.max_norm, not_negative(self.max_norm), "at least 0"),
            ("schedule.floor", self.schedule.floor, (0.0..=1.0).contains(&self.schedule.floor), "0 to 1"),
        ] {
            if !fits {
                return Err(OptimizerError::Setting { setting, value, range });
            }
        }
        Ok(())
    }
}
