use serde::{Deserialize, Serialize};

use super::{GrpoError, refuse};
use crate::ops::grpo_loss::GrpoLoss;

/// How the policy and KL terms are normalised over the whole optimizer step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Mean over a sequence's tokens, then over sequences (arXiv 2402.03300).
    #[default]
    Grpo,
    /// Mean over all tokens (arXiv 2503.14476).
    Dapo,
}

/// What becomes of groups whose advantages are all zero while the KL coefficient is not 0. Without KL they leave the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadGroups {
    /// They stay for the KL term alone.
    #[default]
    KeepForKl,
    /// They leave the batch.
    Drop,
}

/// Settings of the loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Normalisation. Default grpo.
    pub loss: Loss,
    /// Ratios below 1 - this are clipped, 0 to 1. Default 0.2 (GRPO, DAPO).
    pub clip_low: f64,
    /// Ratios above 1 + this are clipped, at least 0. Default 0.2 (GRPO); DAPO's clip-higher is 0.28.
    pub clip_high: f64,
    /// Coefficient of the KL to the frozen reference (k3), at least 0. Default 0 (TRL; the GRPO paper has 0.04).
    pub kl: f64,
    /// Coefficient of the entropy bonus, a mean over the tokens of live groups whatever the normalisation (TRL), at least 0. Default 0.
    pub entropy: f64,
    /// Groups without an advantage. Default: they stay for the KL term.
    pub dead_groups: DeadGroups,
}

impl Default for LossConfig {
    fn default() -> Self {
        let (clip_low, clip_high) = (0.2, 0.2);
        Self {
            loss: Loss::default(),
            clip_low,
            clip_high,
            kl: 0.0,
            entropy: 0.0,
            dead_groups: DeadGroups::default(),
        }
    }
}

impl LossConfig {
    /// Checks every setting's range.
    ///
    /// # Errors
    /// The first setting out of range.
    pub fn check(&self) -> Result<(), GrpoError> {
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        refuse(&[
            ("loss.clip_low", self.clip_low, (0.0..=1.0).contains(&self.clip_low), "0 to 1"),
            ("loss.clip_high", self.clip_high, not_negative(self.clip_high), "at least 0"),
            ("loss.kl", self.kl, not_negative(self.kl), "at least 0"),
            ("loss.entropy", self.entropy, not_negative(self.entropy), "at least 0"),
        ])
    }

    /// The operator's settings.
    pub fn settings(&self) -> GrpoLoss {
        GrpoLoss { clip_low: self.clip_low, clip_high: self.clip_high, kl: self.kl, entropy: self.entropy }
    }

    /// Whether groups without an advantage stay in the batch.
    pub(super) fn keeps_dead_groups(&self) -> bool {
        self.kl != 0.0 && self.dead_groups == DeadGroups::KeepForKl
    }
}
