use super::Learner;
use crate::device::range;
use crate::ops::philox::Key;
use crate::ops::{adamw, grad_norm};
use crate::optimizer::{self, Decay, Kept, OptimizerConfig, Parameter, Update, WeightRounding};
use crate::qwen3::Params;
use crate::tensor::DType;
use crate::trainer::{Gate, TrainError};

impl Learner {
    /// Ends an optimizer step of this loss; `step` counts from 1 within the optimizer's own schedule. A loss or gradient that is
    /// not finite, or that the gate leaves out, leaves everything untouched.
    ///
    /// # Errors
    /// When an operator refuses.
    pub fn update(
        &mut self,
        config: &OptimizerConfig,
        step: u64,
        (loss, gate): (f64, Gate),
    ) -> Result<Update, TrainError> {
        let _update = range("update");
        if let Some(refused) = gate.refuses_loss(loss) {
            return Ok(refused);
        }
        self.expect_kept(config)?;
        let config = &OptimizerConfig { max_norm: gate.max_norm(config.max_norm), ..*config };
        let [first, second] = &mut self.moments;
        let mut masters: Vec<_> =
            self.master.iter_mut().flat_map(Params::iter_mut).map(|(_, t)| Some(t)).collect();
        masters.resize_with(self.gradients.iter().count(), || None);
        let mut scales = self.scales.iter_mut().flat_map(|[m, v]| m.iter_mut().zip(v.iter_mut()));
        let names: Vec<String> = self.gradients.iter().map(|(id, _)| id.name()).collect();
        let tensors = self.model.learns_mut().iter_mut().zip(self.gradients.iter());
        let moments = first.iter_mut().zip(second.iter_mut()).zip(masters);
        let (kept, next) = (self.kept, self.version + 1);
        let parameters = tensors.zip(moments).zip(&names).zip(0..).map(
            |(((((id, w), (_, g)), (((_, m), (_, v)), master)), name), place)| {
                let master = master.filter(|_| w.dtype() != g.dtype()).map(|t| t.view_mut());
                let scales = if m.dtype() == DType::U8 { scales.next() } else { None };
                let scales = scales.map(|((_, m), (_, v))| [m.view_mut(), v.view_mut()]);
                let [m, v] = [m.view_mut(), v.view_mut()];
                let param = adamw::Param { w: w.view_mut(), g: g.view(), m, v, scales, master };
                let rounding = rounding(kept, next, place);
                let decay = if id.is_vector() { Decay::No } else { Decay::Yes };
                Parameter { name, param, decay, rounding }
            },
        );
        let update = optimizer::update_up_to(gate.most_norm(), &self.stream, config, step, parameters)?;
        if matches!(update, Update::Applied { .. }) {
            self.version += 1;
        }
        Ok(update)
    }

    /// The settings of an update are those that memory was carved by.
    fn expect_kept(&self, config: &OptimizerConfig) -> Result<(), TrainError> {
        let Kept { rounding, moments, .. } = self.kept;
        let differing = match config {
            config if config.rounding != rounding => "optimizer.rounding",
            config if config.moments != moments => "optimizer.moments",
            _ => return Ok(()),
        };
        let reason = format!("the memory was planned for {rounding:?} and {moments:?}");
        Err(TrainError::Config { setting: differing.into(), reason })
    }

    /// Global norm of the step's gradients so far; NaN or infinite where one is.
    pub(in crate::trainer) fn gradient_norm(&self) -> Result<f64, TrainError> {
        let gradients: Vec<_> = self.gradients.iter().map(|(_, gradient)| gradient.view()).collect();
        let squares = grad_norm::square_sums(&self.stream, &gradients)?.into_iter();
        Ok(squares.fold(0.0, |sum, square| sum + square).sqrt())
    }

    /// The first tensor of weights or optimizer state that holds NaN or infinity, by its name in a checkpoint.
    ///
    /// # Errors
    /// When an operator refuses.
    pub fn first_not_finite(&self) -> Result<Option<String>, TrainError> {
        let weights = self.model.learns().iter().map(|(id, tensor)| (id.name(), tensor));
        let numbers = self.state().filter(|(_, tensor)| tensor.dtype() != DType::U8);
        let all = numbers.chain(weights.filter(|_| self.master.is_none()));
        let (names, tensors): (Vec<_>, Vec<_>) = all.map(|(name, tensor)| (name, tensor.view())).unzip();
        let squares = grad_norm::square_sums(&self.stream, &tensors)?;
        Ok(names.into_iter().zip(squares).find(|(_, sum)| !sum.is_finite()).map(|(name, _)| name))
    }
}

/// How the parameter at `place` is rounded by the update that makes weights of this version.
fn rounding(kept: Kept, version: u64, place: u32) -> adamw::Rounding {
    match kept.rounding {
        WeightRounding::Nearest => adamw::Rounding::Nearest,
        WeightRounding::Stochastic => adamw::Rounding::Stochastic(Key::of_update(kept.seed, version, place)),
    }
}
