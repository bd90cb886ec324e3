//! What optimizers keep of the weights of a run, and what of it fits.

use super::{ModelDtype, TrainConfig, TrainError};
use crate::optimizer::{Kept, WeightRounding};

impl TrainConfig {
    /// What the optimizers of both phases keep.
    pub fn kept(&self) -> Kept {
        let optimizer = if self.rl.steps > 0 { &self.rl.optimizer } else { &self.sft.optimizer };
        Kept { rounding: optimizer.rounding, moments: optimizer.moments, seed: self.seed }
    }

    /// Both phases share what is kept, and only bf16 is rounded.
    pub(super) fn check_kept(&self) -> Result<(), TrainError> {
        let refuse = |setting: &str, reason: &str| {
            Err(TrainError::Config { setting: setting.into(), reason: reason.into() })
        };
        let (sft, rl) = (&self.sft.optimizer, &self.rl.optimizer);
        let both = self.sft.steps > 0 && self.rl.steps > 0;
        for (setting, alike) in
            [("rounding", sft.rounding == rl.rounding), ("moments", sft.moments == rl.moments)]
        {
            if both && !alike {
                let reason = format!("differs from rl.optimizer.{setting}: both phases share what is kept");
                return refuse(&format!("sft.optimizer.{setting}"), &reason);
            }
        }
        if self.kept().rounding == WeightRounding::Stochastic && self.model.dtype != ModelDtype::Bf16 {
            return refuse(
                if self.rl.steps > 0 { "rl.optimizer.rounding" } else { "sft.optimizer.rounding" },
                "only bf16 weights are rounded stochastically: set model.dtype to \"bf16\"",
            );
        }
        Ok(())
    }
}
