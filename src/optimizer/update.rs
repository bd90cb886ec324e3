use super::{OptimizerConfig, OptimizerError};
use crate::device::Stream;
use crate::ops::adamw::{self, AdamW, Param, Rounding};
use crate::ops::grad_norm;

/// Whether weight decay applies: to matrices, not to gains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// A parameter with its gradient and moments.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// Its name in the checkpoint.
    pub name: &'a str,
    /// Its tensors.
    pub param: Param<'a>,
    /// Whether it decays.
    pub decay: Decay,
    /// How its weights are rounded in this step.
    pub rounding: Rounding,
}

/// What became of an optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// Weights and moments are updated.
    Applied {
        /// Global gradient norm before the clip.
        norm: f64,
        /// What the gradients were multiplied by, at most 1.
        factor: f64,
        /// Learning rate of the step.
        lr: f64,
    },
    /// The gradient norm is not finite: weights and moments are untouched.
    Skipped {
        /// The first parameter whose gradient's norm is not finite.
        parameter: String,
    },
    /// Something else was not finite or out of line, and nobody made the update: weights and moments are untouched.
    LeftOut {
        /// What it was.
        what: Measure,
        /// Its value.
        value: f64,
        /// The bound that it passed.
        limit: f64,
    },
}

/// What is looked at before an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The log-sum-exp of a row of logits.
    Logits,
    /// The loss.
    Loss,
    /// The global gradient norm.
    GradientNorm,
}

impl Measure {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logits => "a row of logits",
            Self::Loss => "the loss",
            Self::GradientNorm => "the gradient norm",
        }
    }
}

/// One optimizer step: the global norm over all gradients (squares added in the order given), then, if it is finite, the clip
/// (torch's: scaled by `max_norm / (norm + 1e-6)` where that is below 1) and AdamW on every parameter. `step` counts from 1.
///
/// # Errors
/// When an operator refuses its arguments.
pub fn update<'a>(
    stream: &Stream,
    config: &OptimizerConfig,
    step: u64,
    parameters: impl IntoIterator<Item = Parameter<'a>>,
) -> Result<Update, OptimizerError> {
    update_up_to(f64::INFINITY, stream, config, step, parameters)
}

/// The same, left out where the norm is above `limit`. The norm is all that the host waits for.
///
/// # Errors
/// When an operator refuses its arguments.
pub fn update_up_to<'a>(
    limit: f64,
    stream: &Stream,
    config: &OptimizerConfig,
    step: u64,
    parameters: impl IntoIterator<Item = Parameter<'a>>,
) -> Result<Update, OptimizerError> {
    let parameters: Vec<_> = parameters.into_iter().collect();
    let gradients: Vec<_> = parameters.iter().map(|parameter| parameter.param.g).collect();
    let mut squares = 0.0;
    for (sum, parameter) in grad_norm::square_sums(stream, &gradients)?.into_iter().zip(&parameters) {
        squares += sum;
        if !f64::is_finite(squares) {
            return Ok(Update::Skipped { parameter: parameter.name.to_owned() });
        }
    }
    let norm = squares.sqrt();
    if norm > limit {
        return Ok(Update::LeftOut { what: Measure::GradientNorm, value: norm, limit });
    }
    let factor = clip_factor(norm, config.max_norm);
    let lr = config.lr * config.schedule.factor(step);
    for Parameter { param, decay, rounding, .. } in parameters {
        let weight_decay = if decay == Decay::Yes { config.weight_decay } else { 0.0 };
        let settings = AdamW {
            lr,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            weight_decay,
            step,
            grad_scale: factor,
            rounding,
        };
        adamw::step(stream, param, &settings)?;
    }
    Ok(Update::Applied { norm, factor, lr })
}

fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm == 0.0 { 1.0 } else { (max_norm / (norm + 1e-6)).min(1.0) }
}
