use super::scoring::{as_batch, forward};
use super::{Learner, Pass};
use crate::device::Stream;
use crate::dims;
use crate::grpo::Packed;
use crate::ops::{Write, product};
use crate::qwen3::Model;
use crate::tensor::Tensor;
use crate::trainer::TrainError;

impl Learner {
    /// Adds a micro-batch's Bradley-Terry loss to the step's gradients, and gives its sum over pairs. Sequences stand in pairs,
    /// chosen before rejected; each one's only target is `token`, whose row of the head is the reward's. `weight` is a pair's
    /// share of the step.
    ///
    /// # Errors
    /// When it does not fit the pass.
    pub(in crate::trainer) fn accumulate_pairs(
        &mut self,
        packed: &Packed,
        token: usize,
        weight: f64,
        pass: &mut Pass,
    ) -> Result<f64, TrainError> {
        let rewards = rewards(&self.stream, &self.model, packed, token, pass)?;
        let margins = rewards.chunks_exact(2).map(|pair| pair[0] - pair[1]);
        let loss = margins.clone().map(|margin| (-margin).exp().ln_1p()).sum();
        let pull = margins.map(|margin| weight / (1.0 + margin.exp()));
        let coefficients: Vec<f64> = pull.flat_map(|pull| [-pull, pull]).collect();
        self.reward_head(packed, token, &coefficients, pass)?;
        self.backward(&as_batch(packed), packed, pass)?;
        Ok(loss)
    }

    /// From dL/dr of every sequence into `pass.dx` and the gradient of the reward's row.
    fn reward_head(
        &mut self,
        packed: &Packed,
        token: usize,
        coefficients: &[f64],
        pass: &mut Pass,
    ) -> Result<(), TrainError> {
        let n = coefficients.len();
        let Pass { x, dx: Some(dx), .. } = pass else { return Ok(()) };
        let mut dr = Tensor::on(self.stream.device(), self.model.dtype, dims![N: n, C: 1])?;
        dr.view_mut().write_f64(coefficients.iter().copied())?;
        let head = self.model.params.head_id();
        let w = self.model.params.get(head).rows(token..token + 1);
        product::backward_input(&self.stream, dr.view(), w, dx.rows_mut(0..n), Write::Set)?;
        let Some(dw) = self.gradients.find_mut(head) else { return Ok(()) };
        let dw = dw.rows(token..token + 1);
        let leaves = &packed.target_leaves();
        Ok(product::backward_weight(&self.stream, dr.view(), x.rows(0..n), leaves, dw)?)
    }
}

/// The reward of every sequence: its last row's normed output times the head's row of `token`.
///
/// # Errors
/// When it does not fit the pass.
pub(in crate::trainer) fn rewards(
    stream: &Stream,
    model: &Model,
    packed: &Packed,
    token: usize,
    pass: &mut Pass,
) -> Result<Vec<f64>, TrainError> {
    forward(stream, model, packed, pass)?;
    let n = packed.targets.ids.len();
    let w = model.params.get(model.params.head_id()).rows(token..token + 1);
    let y = pass.columns[0].rows_mut(0..n).reshape(dims![N: n, C: 1]);
    product::forward(stream, pass.x.rows(0..n), w, y, Write::Set)?;
    Ok(pass.columns[0].rows(0..n).read()?)
}
