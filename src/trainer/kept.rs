//! What optimizers keep of the weights of a run, and what of it fits.

use super::{ModelDtype, TrainConfig, TrainError};
use crate::optimizer::{Kept, WeightRounding};

impl TrainConfig {
    /// What the optimizers of both phases keep.
    pub fn kept(&self) -> Kept {
        let optimizer = if self.rl.steps > 0 { &self.rl.optimizer } else { &self.sft.optimizer };
        Kept { rounding: optimizer.rounding, seed: self.seed }
    }

    /// Both phases share what is kept, and only bf16 is rounded.
    pub(super) fn check_kept(&self) -> Result<(), TrainError> {
        let refuse = |setting: &str, reason: &str| {
            Err(TrainError::Config { setting: setting.into(), reason: reason.into() })
        };
        let (sft, rl) = (&self.sft.optimizer, &self.rl.optimizer);
        if self.sft.steps > 0 && self.rl.steps > 0 && sft.rounding != rl.rounding {
            let reason = "differs from rl.optimizer.rounding: both phases round the same weights alike";
            return refuse("sft.optimizer.rounding", reason);
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
