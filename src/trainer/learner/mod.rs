mod pass;
mod reference;
mod reward_head;
mod scoring;
mod update;

pub use pass::{Pass, PassLimits};
pub(super) use reward_head::rewards;
use scoring::forward;
pub use scoring::log_probabilities;

use std::sync::OnceLock;

use super::TrainError;
use crate::device::{DeviceError, Stream, range};
use crate::dims;
use crate::grpo::{self, LossConfig, Measured, Packed, Stored};
use crate::ops::adamw::codes::BLOCK;
use crate::ops::grpo_loss::{LossGradient, LossSums};
use crate::ops::head::{self, Coefficients, HeadGradient, HeadInput, Logprobs, Lse, Scratch};
use crate::ops::rows;
use crate::optimizer::{Kept, Moments, WeightRounding};
use crate::qwen3::{self, Accumulate, BackwardPass, GradientSink, Model, ParamId, Params};
use crate::tensor::{Arena, ArenaError, DType, Dims, Tensor, View};

/// A model that learns: weights, the gradients of those that learn (of an adapter its factors alone), and the optimizer's moments.
#[derive(Debug)]
pub struct Learner {
    /// Where it runs.
    pub stream: Stream,
    /// The weights.
    pub model: Model,
    gradients: Params,
    moments: [Params; 2],
    /// Of moments that are codes: a scale for each block of every matrix.
    scales: Option<[Params; 2]>,
    kept: Kept,
    /// Weights in the accumulator's dtype, where storage is narrower and rounded to the nearest.
    master: Option<Params>,
    /// What the KL term holds the policy to: the same weights as they were at one time.
    reference: Option<Params>,
    /// Hash of the weights that stay, once it was asked for.
    base: OnceLock<String>,
    /// Optimizer updates so far: the version of the weights.
    pub version: u64,
}

/// Both moments, and their scales where they are codes.
fn moments(
    learns: &Params,
    kept: Moments,
    arena: &mut Arena,
) -> Result<([Params; 2], Option<[Params; 2]>), ArenaError> {
    let codes = |id: ParamId| kept == Moments::EightBit && !id.is_vector();
    let moment =
        |id, dtype: DType, dims| Some((if codes(id) { DType::U8 } else { dtype.accumulator() }, dims));
    let moments = [learns.beside(arena, moment)?, learns.beside(arena, moment)?];
    if kept == Moments::Wide {
        return Ok((moments, None));
    }
    let scale = |id, dtype: DType, dims: Dims| {
        codes(id).then(|| (dtype.accumulator(), dims![Blocks: dims.count().div_ceil(BLOCK)]))
    };
    Ok((moments, Some([learns.beside(arena, scale)?, learns.beside(arena, scale)?])))
}

/// What a checkpoint calls the sets of the state: what stands before and after a parameter's name.
const SETS: [[&str; 2]; 6] = [
    ["first.", ""],
    ["second.", ""],
    ["first.", ".scales"],
    ["second.", ".scales"],
    ["master.", ""],
    ["reference.", ""],
];

fn stored_as([before, after]: [&str; 2], id: ParamId) -> String {
    format!("{before}{}{after}", id.name())
}

/// What a micro-batch is trained towards.
#[derive(Clone, Copy, Debug)]
pub enum Objective<'a> {
    /// Raise the log-probability of the targets, each by its weight.
    Supervised,
    /// The clipped policy loss at this inverse temperature.
    Policy {
        /// Its settings.
        loss: &'a LossConfig,
        /// 1 / T of the policy.
        inv_temperature: f64,
    },
}

impl Learner {
    /// Carves gradients and moments beside a model.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn new(stream: Stream, model: Model, kept: Kept, arena: &mut Arena) -> Result<Self, ArenaError> {
        let (learns, sums) = (model.learns(), model.dtype.accumulator());
        let gradients = learns.like(sums, arena)?;
        let (moments, scales) = moments(learns, kept.moments, arena)?;
        let nearest = kept.rounding == WeightRounding::Nearest;
        let master = (nearest && model.dtype != sums).then(|| learns.like(sums, arena)).transpose()?;
        let mut learner = Self {
            stream,
            gradients,
            moments,
            scales,
            kept,
            master,
            reference: None,
            base: OnceLock::new(),
            version: 0,
            model,
        };
        if !arena.is_planned() {
            learner.refresh_master()?;
        }
        Ok(learner)
    }

    /// Takes the weights over into the master copy, where there is one: after they were loaded or initialised.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn refresh_master(&mut self) -> Result<(), DeviceError> {
        let Some(master) = &mut self.master else { return Ok(()) };
        master.iter_mut().try_for_each(|(id, tensor)| {
            let exact = self.model.learns().get(id).read()?;
            tensor.view_mut().write_f64(exact.into_iter())
        })
    }

    /// What tells an adapter's base from others: a hash of its weights. None where every weight learns.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn base(&self) -> Result<Option<&str>, DeviceError> {
        if self.model.adapter.is_none() {
            return Ok(None);
        }
        let hash = match self.base.get() {
            Some(known) => known,
            None => {
                let hash = self.model.params.hash()?;
                self.base.get_or_init(|| hash)
            }
        };
        Ok(Some(hash))
    }

    /// Forgets the moments: another optimizer begins.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn reset_moments(&mut self) -> Result<(), DeviceError> {
        let scales = self.scales.iter_mut().flatten();
        self.moments.iter_mut().chain(scales).try_for_each(Params::zero)
    }

    /// Everything that a resumed run needs bit for bit, under the names it is stored by.
    pub fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let [first, second] = self.moments.each_ref().map(Some);
        let [first_scales, second_scales] =
            self.scales.as_ref().map_or([None; 2], |scales| scales.each_ref().map(Some));
        let sets =
            [first, second, first_scales, second_scales, self.master.as_ref(), self.reference.as_ref()];
        SETS.into_iter().zip(sets).flat_map(|(set, params)| {
            params.into_iter().flat_map(move |p| p.iter().map(move |(id, t)| (stored_as(set, id), t)))
        })
    }

    /// The same, for reading back.
    pub fn state_mut(&mut self) -> impl Iterator<Item = (String, &mut Tensor)> {
        let [first, second] = self.moments.each_mut().map(Some);
        let [first_scales, second_scales] =
            self.scales.as_mut().map_or([None, None], |scales| scales.each_mut().map(Some));
        let sets =
            [first, second, first_scales, second_scales, self.master.as_mut(), self.reference.as_mut()];
        SETS.into_iter().zip(sets).flat_map(|(set, params)| {
            params.into_iter().flat_map(move |p| p.iter_mut().map(move |(id, t)| (stored_as(set, id), t)))
        })
    }

    /// The step's gradient of a parameter that learns so far, in the accumulator's dtype.
    pub fn gradient(&self, id: ParamId) -> View<'_> {
        self.gradients.get(id)
    }

    /// Starts an optimizer step.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn zero_gradients(&mut self) -> Result<(), DeviceError> {
        self.gradients.zero()
    }

    /// Adds a micro-batch's loss to `sums` and its gradients to the step's.
    ///
    /// # Errors
    /// When it does not fit the pass.
    pub fn accumulate(
        &mut self,
        packed: &Packed,
        objective: Objective<'_>,
        pass: &mut Pass,
        sums: &mut LossSums,
    ) -> Result<(), TrainError> {
        let _micro_batch = range(format_args!("micro-batch of {} rows", packed.tokens.len()));
        let batch = forward(&self.stream, &self.model, packed, pass)?;
        self.head(packed, objective, pass, sums)?;
        self.backward(&batch, packed, pass)
    }

    /// From `pass.dx`, the gradient of the rows that predict targets, to every weight.
    fn backward(
        &mut self,
        batch: &qwen3::Packed,
        packed: &Packed,
        pass: &mut Pass,
    ) -> Result<(), TrainError> {
        let (n, targets) = (batch.len(), packed.targets.ids.len());
        let [rows, _] = &pass.ids;
        let (Some(dx), Some(dhidden), Some(backward)) = (&pass.dx, &mut pass.dhidden, &mut pass.backward)
        else {
            let reason = "a pass without a backward half".into();
            return Err(crate::ops::OpError::Argument { op: "learner_accumulate", reason }.into());
        };
        rows::scatter(&self.stream, dx.rows(0..targets), rows.rows(0..targets), dhidden.rows_mut(0..n))?;
        let leaves = &packed.leaves();
        let whole = BackwardPass { stream: &self.stream, model: &self.model, batch, leaves };
        let mut sink = Accumulate(&mut self.gradients);
        qwen3::backward(whole, dhidden.rows(0..n), &mut pass.activations, backward, &mut sink)?;
        Ok(())
    }

    /// The loss and the head's half of the backward pass: into `pass.dx` and the head's gradient.
    fn head(
        &mut self,
        packed: &Packed,
        objective: Objective<'_>,
        pass: &mut Pass,
        sums: &mut LossSums,
    ) -> Result<(), TrainError> {
        let _head = range("head and loss");
        let n = packed.targets.ids.len();
        let head_id = self.model.params.head_id();
        let Pass { x, dx: Some(dx), ids: [_, targets], columns, scratch, .. } = pass else { return Ok(()) };
        let (w, inv_temperature) = (self.model.params.get(head_id), objective.inv_temperature());
        let input = HeadInput { x: x.rows(0..n), w, targets: targets.rows(0..n), inv_temperature };
        let out = HeadGradient { dx: dx.rows_mut(0..n), dw: self.gradients.find_mut(head_id) };
        let head = Head { stream: &self.stream, packed, input, columns, scratch, out };
        match objective {
            Objective::Supervised => head.supervised(sums)?,
            Objective::Policy { loss, .. } => head.policy(loss, packed.stored_at(self.version), sums)?,
        }
        if head_id == ParamId::Head {
            Accumulate(&mut self.gradients).finished(head_id);
        }
        Ok(())
    }
}

impl Objective<'_> {
    fn inv_temperature(self) -> f64 {
        match self {
            Objective::Supervised => 1.0,
            Objective::Policy { inv_temperature, .. } => inv_temperature,
        }
    }
}

/// The head's stage of one micro-batch.
struct Head<'a> {
    stream: &'a Stream,
    packed: &'a Packed,
    input: HeadInput<'a>,
    columns: &'a mut [Tensor; 5],
    scratch: &'a mut Scratch,
    out: HeadGradient<'a>,
}

impl Head<'_> {
    /// -sum w ln p: coefficients are known beforehand, so one pass gives loss and gradient.
    fn supervised(self, sums: &mut LossSums) -> Result<(), TrainError> {
        let (n, leaves) = (self.packed.targets.ids.len(), self.packed.target_leaves());
        let [logprob, lse, entropy, ..] = self.columns.each_mut().map(|t| t.rows_mut(0..n));
        let weights = grpo::supervised(self.stream, self.packed, lse.dtype())?;
        let coefficients = Coefficients { dlogprob: weights.view(), dentropy: None };
        let fresh = Lse::Fresh(Logprobs { logprob, lse, entropy });
        head::gradient(self.stream, self.input, coefficients, fresh, (&leaves, self.scratch), self.out)?;
        let [logprob, _, entropy, ..] = self.columns.each_ref().map(|t| t.rows(0..n));
        let (logprob, entropy) = (logprob.read()?, entropy.read()?);
        sums.loss -= self.packed.weight.iter().zip(&logprob).map(|(w, l)| w * l).sum::<f64>();
        sums.token_entropy += entropy.iter().sum::<f64>();
        sums.tokens += n as u64;
        Ok(())
    }

    /// The policy loss. Where the record's numbers are those of the current weights no pass for old log-probabilities is needed.
    fn policy(
        self,
        loss: &LossConfig,
        stored: Option<Stored<'_>>,
        sums: &mut LossSums,
    ) -> Result<(), TrainError> {
        let (n, leaves) = (self.packed.targets.ids.len(), self.packed.target_leaves());
        let [logprob, lse, entropy, dlogprob, dentropy] = self.columns;
        match stored {
            Some(stored) => {
                let numbers = [&self.packed.behaviour, stored.lse, stored.entropy];
                for (values, to) in numbers.into_iter().zip([&mut *logprob, &mut *lse, &mut *entropy]) {
                    to.rows_mut(0..n).write_f64(values.iter().map(|x| f64::from(*x)))?;
                }
            }
            None => {
                let [logprob, lse, entropy] =
                    [&mut *logprob, &mut *lse, &mut *entropy].map(|t| t.rows_mut(0..n));
                let out = Logprobs { logprob, lse, entropy };
                head::token_logprob(self.stream, self.input, self.scratch, out)?;
            }
        }
        let (lse, entropy) = (lse.rows(0..n), entropy.rows(0..n));
        let measured = Measured { logprob: logprob.rows(0..n), entropy };
        let out = LossGradient { dlogprob: dlogprob.rows_mut(0..n), dentropy: dentropy.rows_mut(0..n) };
        grpo::evaluate(self.stream, loss, self.packed, measured, out, sums)?;
        let dentropy = (loss.entropy != 0.0).then(|| dentropy.rows(0..n));
        let coefficients = Coefficients { dlogprob: dlogprob.rows(0..n), dentropy };
        let lse = Lse::Stored { lse, entropy };
        Ok(head::gradient(self.stream, self.input, coefficients, lse, (&leaves, self.scratch), self.out)?)
    }
}
