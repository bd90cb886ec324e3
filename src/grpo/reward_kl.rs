use serde::{Deserialize, Serialize};

use super::{GrpoError, refuse};
use crate::ops::grpo_loss::Kl;
use crate::record::Rollout;

/// A KL term in the reward: what a judgement loses for having been unlikely under the reference. Taken from the sum over its drawn
/// tokens, from log-probabilities as they were at sampling (verl's `apply_kl_penalty` with an outcome estimator; TRL's RLOO for k1).
/// It is part of the reward from there on: groups that nothing else tells apart are alive by it, and an estimator that divides by a
/// group's standard deviation pulls those at full strength; `rloo` and `grpo_without_std` do not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardKl {
    /// Reward for each nat, at least 0. Default 0: rewards stay as they are.
    pub coefficient: f64,
    /// Which estimate of the KL: `k1` (default), `k2` or `k3`. (verl clamps k3's log-ratio at +-20 and the estimate at 10.)
    pub form: Kl,
}

impl Default for RewardKl {
    fn default() -> Self {
        Self { coefficient: 0.0, form: Kl::K1 }
    }
}

impl RewardKl {
    /// Checks the setting's range.
    ///
    /// # Errors
    /// When the coefficient is below 0 or not finite.
    pub fn check(&self) -> Result<(), GrpoError> {
        let fits = self.coefficient >= 0.0 && self.coefficient.is_finite();
        refuse(&[("reward_kl.coefficient", self.coefficient, fits, "at least 0")])
    }

    /// What rollout `sequence` of the step loses; `reference` holds ln p of every completion token under the reference.
    ///
    /// # Errors
    /// When the coefficient is not 0 and there are not as many reference log-probabilities as tokens.
    pub fn penalty(
        &self,
        sequence: u32,
        rollout: &Rollout,
        reference: Option<&[f32]>,
    ) -> Result<f64, GrpoError> {
        if self.coefficient == 0.0 {
            return Ok(0.0);
        }
        let reference = reference.ok_or(GrpoError::NoReference { sequence })?;
        let (got, expected) = (reference.len(), rollout.completion.len());
        if got != expected {
            let what = "reference log-probabilities";
            return Err(GrpoError::Columns { sequence, what, got, expected });
        }
        let estimate = |(reference, behaviour): (&f32, &f32)| {
            self.form.estimate(f64::from(*reference) - f64::from(*behaviour))
        };
        let all = reference.iter().zip(&rollout.logprob).map(estimate);
        let drawn = (0u32..).zip(all).filter(|(place, _)| !rollout.forced.contains(place));
        Ok(self.coefficient * drawn.map(|(_, estimate)| estimate).sum::<f64>())
    }
}
