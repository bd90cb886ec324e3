use serde::{Deserialize, Serialize};

use super::{GrpoError, Loss, refuse};
use crate::ops::grpo_loss::{GrpoLoss, Kl};

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
    /// Normalisation and ratio: `grpo` (default), `dr_grpo`, `dapo`, `gspo`.
    pub loss: Loss,
    /// Length that dr_grpo divides a sequence's sum by, tokens. Default 0: `rollout.max_new_tokens` (TRL).
    pub constant: usize,
    /// Ratios below 1 - this are clipped, 0 to 1. Default 0.2 (GRPO, DAPO).
    pub clip_low: f64,
    /// Ratios above 1 + this are clipped, at least 0. Default 0.2 (GRPO); DAPO's clip-higher is 0.28. (GSPO clips at 3e-4 and
    /// 4e-4.)
    pub clip_high: f64,
    /// Ratios above this are clipped where the advantage is negative (arXiv 1912.09729), above 1 + `clip_high`. Default: left
    /// out, they are not (TRL; verl has 3).
    pub dual_clip: Option<f64>,
    /// Coefficient of the KL to the reference, at least 0. Default 0 (TRL; the GRPO paper has 0.04).
    pub kl: f64,
    /// Which estimate of the KL: `k2` or `k3` (default, GRPO). `k1` is refused: its gradient has mean 0.
    pub kl_form: Kl,
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
            constant: 0,
            clip_low,
            clip_high,
            dual_clip: None,
            kl: 0.0,
            kl_form: Kl::K3,
            entropy: 0.0,
            dead_groups: DeadGroups::default(),
        }
    }
}

impl LossConfig {
    /// Checks every setting's range, and that they fit each other.
    ///
    /// # Errors
    /// The first setting that does not.
    pub fn check(&self) -> Result<(), GrpoError> {
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        let dual = self.dual_clip.unwrap_or(f64::MAX);
        let constant = (self.loss != Loss::DrGrpo || self.constant > 0, "above 0 for dr_grpo");
        refuse(&[
            ("loss.constant", self.constant as f64, constant.0, constant.1),
            ("loss.clip_low", self.clip_low, (0.0..=1.0).contains(&self.clip_low), "0 to 1"),
            ("loss.clip_high", self.clip_high, not_negative(self.clip_high), "at least 0"),
            (
                "loss.dual_clip",
                dual,
                dual > 1.0 + self.clip_high && dual.is_finite(),
                "above 1 + loss.clip_high",
            ),
            ("loss.kl", self.kl, not_negative(self.kl), "at least 0"),
            ("loss.entropy", self.entropy, not_negative(self.entropy), "at least 0"),
        ])?;
        match self.kl_form {
            Kl::K1 => Err(GrpoError::Refused {
                setting: "loss.kl_form",
                reason: "k1 in the loss has the gradient of ln p, whose mean over the policy's own tokens is 0 whatever the \
                         reference says; take k2 or k3",
            }),
            Kl::K2 | Kl::K3 => Ok(()),
        }
    }

    /// The operator's settings.
    pub fn settings(&self) -> GrpoLoss {
        let Self { clip_low, clip_high, dual_clip, kl, kl_form, entropy, .. } = *self;
        GrpoLoss { ratio: self.loss.variant().ratio, clip_low, clip_high, dual_clip, kl, kl_form, entropy }
    }

    /// The weight of one token of each sequence in the policy and KL terms, from the numbers of tokens that count.
    pub fn weights(&self, lengths: &[usize]) -> Vec<f64> {
        (self.loss.variant().weights)(lengths, self.constant)
    }

    /// Whether groups without an advantage stay in the batch.
    pub(super) fn keeps_dead_groups(&self) -> bool {
        self.kl != 0.0 && self.dead_groups == DeadGroups::KeepForKl
    }
}
