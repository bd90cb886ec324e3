use super::activations::{BackwardBuffers, LayerActivations};
use super::adapter::Beside;
use super::forward::{Layer, per_norm, room};
use super::params::LayerParam::{Down, Gate, InputNorm, K, KNorm, O, PostNorm, Q, QNorm, Up, V};
use super::{Activations, GradientSink, Keep, LayerParam, Model, Packed, ParamId};
use crate::device::{Stream, range};
use crate::ops::{
    Leaves, OpError, Write, attention, bias, embedding, product, rms_norm, rope, scale, swiglu,
};
use crate::tensor::{Tensor, View, ViewMut};

/// What a backward pass runs over: the same batch as the forward pass before it.
#[derive(Clone, Copy, Debug)]
pub struct BackwardPass<'a> {
    /// Where it runs.
    pub stream: &'a Stream,
    /// The model, unchanged since the forward pass.
    pub model: &'a Model,
    /// The batch of the forward pass.
    pub batch: &'a Packed,
    /// Row ranges inside which sums over tokens are taken.
    pub leaves: &'a Leaves,
}

/// The mirror of [`super::forward`] without a KV pool: from the gradient of [`Activations::hidden`] to the gradient of every
/// weight that learns but the head's own, which go to `sink` from the last layer to the first, the embedding at the end.
///
/// # Errors
/// When shapes do not fit, or the activations were not kept.
pub fn backward(
    pass: BackwardPass<'_>,
    hidden: View<'_>,
    buffers: &mut Activations,
    d: &mut BackwardBuffers,
    sink: &mut impl GradientSink,
) -> Result<(), OpError> {
    let BackwardPass { stream, model, batch, leaves } = pass;
    let n = batch.len();
    if buffers.keep == Keep::Nothing {
        let reason = "the forward pass kept no activations".into();
        return Err(OpError::Argument { op: "qwen3_backward", reason });
    }
    let _backward = range(format_args!("backward of {n} tokens"));
    let (x, rstd) = (buffers.residual[model.config.layers].rows(0..n), buffers.hidden_rstd.rows(0..n));
    let norm = rms_norm::Backward { dy: hidden, x, gain: model.params.get(ParamId::Norm), rstd, leaves };
    rms_norm::backward(stream, norm, d.stream.rows_mut(0..n), Write::Set, sink.buffer(ParamId::Norm))?;
    sink.finished(ParamId::Norm);
    for l in (0..model.config.layers).rev() {
        let _layer = range(format_args!("layer {l}"));
        let set = buffers.set(l);
        let layer = Layer { stream, model, l, n, spans: &batch.spans, indices: &buffers.indices };
        let (input, a) = (buffers.residual[l].rows(0..n), &mut buffers.layers[set]);
        if buffers.keep == Keep::Inputs {
            layer.forward(input, (a, &mut buffers.low), d.normed.rows_mut(0..n), None)?;
        }
        let layer = LayerBackward { layer, leaves };
        layer.feed_forward(a, d, sink)?;
        layer.attention(a, d, sink)?;
        layer.project(input, a, d, sink)?;
    }
    if let Some(table) = sink.buffer(ParamId::Embedding) {
        embedding::backward(stream, d.stream.rows(0..n), buffers.indices.tokens(n), table)?;
        sink.finished(ParamId::Embedding);
    }
    Ok(())
}

/// One layer of the backward pass.
struct LayerBackward<'a> {
    layer: Layer<'a>,
    leaves: &'a Leaves,
}

impl LayerBackward<'_> {
    /// From the output's gradient in `d.stream` to the middle's, in place.
    fn feed_forward(
        &self,
        a: &mut LayerActivations,
        d: &mut BackwardBuffers,
        sink: &mut impl GradientSink,
    ) -> Result<(), OpError> {
        let (s, n) = (self.layer.stream, self.layer.n);
        let down = Linear { dy: d.stream.rows(0..n), x: a.product.rows(0..n), p: Down };
        self.linear(down, (d.product.rows_mut(0..n), Write::Set), &mut d.low, sink)?;
        swiglu::backward(s, d.product.rows(0..n), a.gate.rows_mut(0..n), a.up.rows_mut(0..n))?;
        for (p, dy, write) in [(Gate, &a.gate, Write::Set), (Up, &a.up, Write::Add)] {
            let from = Linear { dy: dy.rows(0..n), x: a.post_normed.rows(0..n), p };
            self.linear(from, (d.normed.rows_mut(0..n), write), &mut d.low, sink)?;
        }
        let from = Normed { dy: &d.normed, x: a.middle.rows(0..n), rstd: &a.post_rstd, gain: PostNorm };
        self.norm(from, d.stream.rows_mut(0..n), Write::Add, sink)
    }

    /// From the middle's gradient in `d.stream` to those of the raw queries, keys and values: `d.q`, `d.k`, `d.v`, the
    /// first two in `a.q` and `a.k` where they went through norms.
    fn attention(
        &self,
        a: &mut LayerActivations,
        d: &mut BackwardBuffers,
        sink: &mut impl GradientSink,
    ) -> Result<(), OpError> {
        let (s, n) = (self.layer.stream, self.layer.n);
        let out = Linear { dy: d.stream.rows(0..n), x: a.attended.rows(0..n), p: O };
        self.linear(out, (d.attended.rows_mut(0..n), Write::Set), &mut d.low, sink)?;
        let from = attention::Backward {
            dout: d.attended.rows(0..n),
            q: a.q.rows(0..n),
            k: a.k.rows(0..n),
            v: a.v.rows(0..n),
            out: a.attended.rows(0..n),
            lse: a.lse.rows(0..n),
            spans: self.layer.spans,
        };
        attention::backward(s, from, d.q.rows_mut(0..n), d.k.rows_mut(0..n), d.v.rows_mut(0..n))?;
        rope::backward(s, d.q.rows_mut(0..n), self.layer.indices.positions(n), &self.layer.model.rope)?;
        rope::backward(s, d.k.rows_mut(0..n), self.layer.indices.positions(n), &self.layer.model.rope)?;
        let Some(raw) = &a.raw else { return Ok(()) };
        let q = Normed { dy: &d.q, x: raw.q.rows(0..n), rstd: &raw.q_rstd, gain: QNorm };
        self.norm(q, a.q.rows_mut(0..n), Write::Set, sink)?;
        let k = Normed { dy: &d.k, x: raw.k.rows(0..n), rstd: &raw.k_rstd, gain: KNorm };
        self.norm(k, a.k.rows_mut(0..n), Write::Set, sink)
    }

    /// From there to the input's gradient, added to `d.stream`.
    fn project(
        &self,
        input: View<'_>,
        a: &LayerActivations,
        d: &mut BackwardBuffers,
        sink: &mut impl GradientSink,
    ) -> Result<(), OpError> {
        let n = self.layer.n;
        let (q, k) = if a.raw.is_some() { (&a.q, &a.k) } else { (&d.q, &d.k) };
        for (p, dy, write) in [(Q, q, Write::Set), (K, k, Write::Add), (V, &d.v, Write::Add)] {
            let from = Linear { dy: dy.rows(0..n), x: a.input_normed.rows(0..n), p };
            self.linear(from, (d.normed.rows_mut(0..n), write), &mut d.low, sink)?;
        }
        let from = Normed { dy: &d.normed, x: input, rstd: &a.input_rstd, gain: InputNorm };
        self.norm(from, d.stream.rows_mut(0..n), Write::Add, sink)
    }

    /// The mirror of a layer's `linear`: dx (=, +=) dy w, and the gradients of all that made y.
    fn linear(
        &self,
        from: Linear<'_>,
        (mut dx, write): (ViewMut<'_>, Write),
        low: &mut Option<Tensor>,
        sink: &mut impl GradientSink,
    ) -> Result<(), OpError> {
        let Layer { stream, model, l, .. } = self.layer;
        let Linear { dy, x, p } = from;
        self.weight(dy, x, ParamId::Layer(l, p), sink)?;
        if let Some(b) = model.config.family.bias(p) {
            self.bias(dy, ParamId::Layer(l, b), sink)?;
        }
        product::backward_input(stream, dy, self.layer.weight(p), dx.reborrow(), write)?;
        match model.beside(l, p) {
            Some(beside) => self.factors(from, beside, dx, low, sink),
            None => Ok(()),
        }
    }

    /// Through an adapter's factors: with u = alpha / R x Aᵀ again as in the forward pass, dB += dyᵀ u; with
    /// du = alpha / R dy B in its place, dA += duᵀ x and dx += du A.
    fn factors(
        &self,
        from: Linear<'_>,
        beside: Beside<'_>,
        dx: ViewMut<'_>,
        low: &mut Option<Tensor>,
        sink: &mut impl GradientSink,
    ) -> Result<(), OpError> {
        let (stream, n, [a, b]) = (self.layer.stream, self.layer.n, beside.ids);
        self.weight(from.dy, self.layer.lower(from.x, beside, low)?, b, sink)?;
        let low = room(low)?;
        product::backward_input(stream, from.dy, beside.b, low.rows_mut(0..n), Write::Set)?;
        scale::scale(stream, low.rows_mut(0..n), beside.scale)?;
        self.weight(low.rows(0..n), from.x, a, sink)?;
        product::backward_input(stream, low.rows(0..n), beside.a, dx, Write::Add)
    }

    /// dw += dyᵀ x, where w learns.
    fn weight(
        &self,
        dy: View<'_>,
        x: View<'_>,
        id: ParamId,
        sink: &mut impl GradientSink,
    ) -> Result<(), OpError> {
        let Some(dw) = sink.buffer(id) else { return Ok(()) };
        product::backward_weight(self.layer.stream, dy, x, self.leaves, dw)?;
        sink.finished(id);
        Ok(())
    }

    /// The gradient of a bias, where it learns.
    fn bias(&self, dy: View<'_>, id: ParamId, sink: &mut impl GradientSink) -> Result<(), OpError> {
        let Some(dbias) = sink.buffer(id) else { return Ok(()) };
        bias::backward(self.layer.stream, dy, self.leaves, dbias)?;
        sink.finished(id);
        Ok(())
    }

    fn norm(
        &self,
        from: Normed<'_>,
        dx: ViewMut<'_>,
        write: Write,
        sink: &mut impl GradientSink,
    ) -> Result<(), OpError> {
        let n = self.layer.n;
        let (per, groups) = per_norm(from.x.dims());
        let leaves = &self.leaves.scaled(groups.count() / n.max(1));
        let (dy, rstd) = (from.dy.rows(0..n).reshape(per), from.rstd.rows(0..n).reshape(groups));
        let (x, gain) = (from.x.reshape(per), self.layer.weight(from.gain));
        let id = ParamId::Layer(self.layer.l, from.gain);
        let norm = rms_norm::Backward { dy, x, gain, rstd, leaves };
        rms_norm::backward(self.layer.stream, norm, dx.reshape(per), write, sink.buffer(id))?;
        sink.finished(id);
        Ok(())
    }
}

/// A matrix to go back through.
#[derive(Clone, Copy)]
struct Linear<'a> {
    dy: View<'a>,
    x: View<'a>,
    p: LayerParam,
}

/// A norm to go back through.
struct Normed<'a> {
    dy: &'a Tensor,
    x: View<'a>,
    rstd: &'a Tensor,
    gain: LayerParam,
}
