use super::activations::LayerActivations;
use super::adapter::Beside;
use super::batch::Indices;
use super::params::LayerParam::{Down, Gate, InputNorm, K, KNorm, O, PostNorm, Q, QNorm, Up, V};
use super::{Activations, Config, LayerParam, Model, Packed, ParamId};
use crate::device::{Stream, range};
use crate::dims;
use crate::ops::attention::{self, Keys, Span};
use crate::ops::{OpError, Write, bias, embedding, kv_append, product, rms_norm, rope, rows, scale, swiglu};
use crate::tensor::{Dims, Tensor, View, ViewMut};

/// Dims of a KV pool of `blocks` blocks of 64 positions: [L, Blocks, K|V, KVH, 64, D].
pub fn kv_pool_dims(c: &Config, blocks: usize) -> Dims {
    dims![L: c.layers, Blocks: blocks, Pair: 2, KVH: c.kv_heads, S: kv_append::BLOCK, D: c.head_dim]
}

/// Runs `batch` through the model; the result is [`Activations::hidden`]. With a `pool`, keys and values are written to the
/// batch's slots and read through its spans' blocks; without, they are the batch's own.
///
/// # Errors
/// When the batch does not fit the buffers.
pub fn forward(
    stream: &Stream,
    model: &Model,
    batch: &Packed,
    buffers: &mut Activations,
    mut pool: Option<ViewMut<'_>>,
) -> Result<(), OpError> {
    let n = batch.len();
    if n > buffers.capacity {
        let reason = format!("{n} packed tokens, buffers hold {}", buffers.capacity);
        return Err(OpError::Argument { op: "qwen3_forward", reason });
    }
    let _forward = range(format_args!("forward of {n} tokens"));
    buffers.indices.upload(batch)?;
    let first = buffers.residual[0].rows_mut(0..n);
    embedding::forward(stream, model.params.get(ParamId::Embedding), buffers.indices.tokens(n), first)?;
    for l in 0..model.config.layers {
        let _layer = range(format_args!("layer {l}"));
        let (set, before, after) = (buffers.set(l), buffers.stage(l), buffers.stage(l + 1));
        let [input, output] =
            buffers.residual.get_disjoint_mut([before, after]).expect("a layer's input is not its output");
        let layer = Layer { stream, model, l, n, spans: &batch.spans, indices: &buffers.indices };
        let pool = pool.as_mut().map(ViewMut::reborrow);
        let (a, low) = (&mut buffers.layers[set], &mut buffers.low);
        layer.forward(input.rows(0..n), (a, low), output.rows_mut(0..n), pool)?;
    }
    let last = buffers.residual[buffers.stage(model.config.layers)].rows(0..n);
    let (hidden, rstd) = (buffers.hidden.rows_mut(0..n), buffers.hidden_rstd.rows_mut(0..n));
    rms_norm::forward(stream, last, model.params.get(ParamId::Norm), model.config.norm_eps, hidden, rstd)
}

/// One layer of one pass.
pub(super) struct Layer<'a> {
    pub(super) stream: &'a Stream,
    pub(super) model: &'a Model,
    /// Its index.
    pub(super) l: usize,
    /// Packed tokens.
    pub(super) n: usize,
    pub(super) spans: &'a [Span],
    pub(super) indices: &'a Indices,
}

impl<'a> Layer<'a> {
    pub(super) fn weight(&self, p: LayerParam) -> View<'a> {
        self.model.params.get(ParamId::Layer(self.l, p))
    }

    /// output = middle + ffn(norm(middle)), middle = input + attention(norm(input)).
    pub(super) fn forward(
        &self,
        input: View<'_>,
        (a, low): (&mut LayerActivations, &mut Option<Tensor>),
        mut output: ViewMut<'_>,
        pool: Option<ViewMut<'_>>,
    ) -> Result<(), OpError> {
        let (s, n) = (self.stream, self.n);
        self.project(input, a, low)?;
        self.attend(a, pool)?;
        rows::copy(s, input, a.middle.rows_mut(0..n))?;
        self.linear(a.attended.rows(0..n), O, (a.middle.rows_mut(0..n), Write::Add), low)?;
        self.norm(a.middle.rows(0..n), PostNorm, a.post_normed.rows_mut(0..n), a.post_rstd.rows_mut(0..n))?;
        let normed = a.post_normed.rows(0..n);
        self.linear(normed, Gate, (a.gate.rows_mut(0..n), Write::Set), low)?;
        self.linear(normed, Up, (a.up.rows_mut(0..n), Write::Set), low)?;
        swiglu::forward(s, a.gate.rows(0..n), a.up.rows(0..n), a.product.rows_mut(0..n))?;
        rows::copy(s, a.middle.rows(0..n), output.reborrow())?;
        self.linear(a.product.rows(0..n), Down, (output, Write::Add), low)
    }

    /// Queries, keys and values of the normed input; queries and keys normed per head where the family does, and rotated.
    fn project(
        &self,
        input: View<'_>,
        a: &mut LayerActivations,
        low: &mut Option<Tensor>,
    ) -> Result<(), OpError> {
        let (s, n) = (self.stream, self.n);
        self.norm(input, InputNorm, a.input_normed.rows_mut(0..n), a.input_rstd.rows_mut(0..n))?;
        let normed = a.input_normed.rows(0..n);
        let (q, k) = match &mut a.raw {
            Some(raw) => (&mut raw.q, &mut raw.k),
            None => (&mut a.q, &mut a.k),
        };
        self.linear(normed, Q, (q.rows_mut(0..n), Write::Set), low)?;
        self.linear(normed, K, (k.rows_mut(0..n), Write::Set), low)?;
        self.linear(normed, V, (a.v.rows_mut(0..n), Write::Set), low)?;
        if let Some(raw) = &mut a.raw {
            self.norm(raw.q.rows(0..n), QNorm, a.q.rows_mut(0..n), raw.q_rstd.rows_mut(0..n))?;
            self.norm(raw.k.rows(0..n), KNorm, a.k.rows_mut(0..n), raw.k_rstd.rows_mut(0..n))?;
        }
        rope::forward(s, a.q.rows_mut(0..n), self.indices.positions(n), &self.model.rope)?;
        rope::forward(s, a.k.rows_mut(0..n), self.indices.positions(n), &self.model.rope)
    }

    fn attend(&self, a: &mut LayerActivations, pool: Option<ViewMut<'_>>) -> Result<(), OpError> {
        let (s, n) = (self.stream, self.n);
        let (q, k, v) = (a.q.rows(0..n), a.k.rows(0..n), a.v.rows(0..n));
        let (out, lse) = (a.attended.rows_mut(0..n), a.lse.rows_mut(0..n));
        match pool {
            None => attention::forward(s, q, Keys::Packed { k, v }, self.spans, out, lse),
            Some(mut pool) => {
                kv_append::forward(s, k, v, pool.reborrow(), self.l, self.indices.slots(n))?;
                attention::forward(
                    s,
                    q,
                    Keys::Paged { pool: pool.view(), layer: self.l },
                    self.spans,
                    out,
                    lse,
                )
            }
        }
    }

    /// y (=, +=) x wᵀ, then the bias where the family has one, then what an adapter adds where it is on: alpha / R (x Aᵀ) Bᵀ.
    fn linear(
        &self,
        x: View<'_>,
        p: LayerParam,
        (mut y, write): (ViewMut<'_>, Write),
        low: &mut Option<Tensor>,
    ) -> Result<(), OpError> {
        product::forward(self.stream, x, self.weight(p), y.reborrow(), write)?;
        if let Some(b) = self.model.config.family.bias(p) {
            bias::forward(self.stream, self.weight(b), y.reborrow())?;
        }
        let Some(beside) = self.model.beside(self.l, p) else { return Ok(()) };
        let lowered = self.lower(x, beside, low)?;
        product::forward(self.stream, lowered, beside.b, y, Write::Add)
    }

    /// alpha / R x Aᵀ: [N, R].
    pub(super) fn lower<'b>(
        &self,
        x: View<'_>,
        beside: Beside<'_>,
        low: &'b mut Option<Tensor>,
    ) -> Result<View<'b>, OpError> {
        let mut lowered = room(low)?.rows_mut(0..self.n);
        product::forward(self.stream, x, beside.a, lowered.reborrow(), Write::Set)?;
        scale::scale(self.stream, lowered, beside.scale)?;
        Ok(room(low)?.rows(0..self.n))
    }

    /// y = x normed over its last dimension (the hidden width, or one head).
    fn norm(&self, x: View<'_>, gain: LayerParam, y: ViewMut<'_>, rstd: ViewMut<'_>) -> Result<(), OpError> {
        let (per, groups) = per_norm(x.dims());
        let (x, y, rstd) = (x.reshape(per), y.reshape(per), rstd.reshape(groups));
        rms_norm::forward(self.stream, x, self.weight(gain), self.model.config.norm_eps, y, rstd)
    }
}

/// The buffer between an adapter's factors.
pub(super) fn room(low: &mut Option<Tensor>) -> Result<&mut Tensor, OpError> {
    let reason = "the buffers are those of a model without an adapter".into();
    low.as_mut().ok_or(OpError::Argument { op: "qwen3_forward", reason })
}

/// [rows, width] and [rows] of what is normed together: tokens by C, or tokens times heads by D.
pub(super) fn per_norm(dims: Dims) -> (Dims, Dims) {
    let (rows, width) = (dims.count() / dims.last().max(1), dims.last());
    (dims![N: rows, C: width], dims![N: rows])
}
