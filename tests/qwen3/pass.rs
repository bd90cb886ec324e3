//! One forward and backward pass over packed sequences, as the trainer runs it, with everything it computes kept.

use std::collections::BTreeMap;

use patarm::dims;
use patarm::ops::Leaves;
use patarm::ops::attention::{Source, Span};
use patarm::ops::head::{self, Coefficients, HeadGradient, HeadInput, Logprobs, Lse, Scratch};
use patarm::qwen3::{self, Accumulate, Activations, BackwardBuffers, BackwardPass, Keep, Model, Packed};
use patarm::tensor::{Arena, DType, Tensor};

use super::golden::{Golden, arena, stream};

/// Everything that a pass computes, as f64.
pub(crate) struct Outputs {
    pub(crate) per_token: BTreeMap<&'static str, Vec<f64>>,
    pub(crate) gradients: BTreeMap<String, Vec<f64>>,
}

/// Packs the golden batch: every sequence a span of its own.
fn packed(golden: &Golden) -> Packed {
    let mut batch = Packed { tokens: golden.ids("tokens"), ..Packed::default() };
    for length in golden.ids("lengths") {
        let first = batch.positions.len();
        batch.positions.extend(0..length);
        let queries = first..batch.positions.len();
        batch.spans.push(Span { queries, start: 0, source: Source::Packed { parent: None } });
    }
    batch
}

/// Leaves of so many whole sequences each.
pub(crate) fn leaves(golden: &Golden, sequences: usize) -> Leaves {
    let ends = golden.ids("lengths").into_iter().scan(0, |end, n| {
        *end += n as usize;
        Some(*end)
    });
    let ends: Vec<usize> = ends.collect();
    let whole = ends.chunks(sequences).map(|leaf| leaf[leaf.len() - 1]);
    Leaves::new(std::iter::once(0).chain(whole).collect())
}

fn column(values: &[f64], dtype: DType) -> Tensor {
    let dims = dims![N: values.len()];
    match dtype {
        DType::F64 => Tensor::from_slice(values, dims),
        _ => Tensor::from_slice(&values.iter().map(|x| *x as f32).collect::<Vec<_>>(), dims),
    }
}

/// Runs the golden batch through its model in `dtype`.
pub(crate) fn run(golden: &Golden, dtype: DType, keep: Keep, leaves: &Leaves) -> Outputs {
    let mut arena = arena(&stream());
    let model = golden.model(dtype, &mut arena);
    through(golden, &model, keep, leaves)
}

/// Runs the golden batch through a model; gradients are those of what learns.
pub(crate) fn through(golden: &Golden, model: &Model, keep: Keep, leaves: &Leaves) -> Outputs {
    let stream = stream();
    let mut arena = arena(&stream);
    let (batch, c, dtype) = (packed(golden), &model.config, model.dtype);
    let (n, sums) = (batch.len(), dtype.accumulator());
    let mut buffers = Activations::new(c, dtype, keep, n, &mut arena).expect("fits");
    qwen3::forward(&stream, model, &batch, &mut buffers, None).expect("fits");

    let w = model.params.get(model.params.head_id());
    let mut logits = Tensor::zeros(sums, dims![B: n, V: c.vocabulary]);
    head::logits(&stream, buffers.hidden(n), w, 1.0, logits.view_mut()).expect("fits");

    let mut gradients = model.learns().like(sums, &mut arena).expect("fits");
    let targets = Tensor::from_ids(&golden.ids("targets"), dims![N: n]);
    let input = HeadInput { x: buffers.hidden(n), w, targets: targets.view(), inv_temperature: 1.0 };
    let weights = column(&golden.values("token_weights"), sums);
    let [mut logprob, mut lse, mut entropy] = std::array::from_fn(|_| Tensor::zeros(sums, dims![N: n]));
    let fresh = Logprobs { logprob: logprob.view_mut(), lse: lse.view_mut(), entropy: entropy.view_mut() };
    let mut dhidden = Tensor::zeros(dtype, dims![N: n, C: c.hidden]);
    let out = HeadGradient { dx: dhidden.view_mut(), dw: gradients.find_mut(model.params.head_id()) };
    let mut scratch = scratch(&mut arena, dtype, c.vocabulary);
    let coefficients = Coefficients { dlogprob: weights.view(), dentropy: None };
    head::gradient(&stream, input, coefficients, Lse::Fresh(fresh), (leaves, &mut scratch), out)
        .expect("fits");

    let mut flowing = BackwardBuffers::new(c, dtype, n, &mut arena).expect("fits");
    let pass = BackwardPass { stream: &stream, model, batch: &batch, leaves };
    let mut sink = Accumulate(&mut gradients);
    qwen3::backward(pass, dhidden.view(), &mut buffers, &mut flowing, &mut sink).expect("fits");

    let named = [("logits", &logits), ("logprob", &logprob), ("lse", &lse), ("entropy", &entropy)];
    Outputs {
        per_token: named.into_iter().map(|(name, tensor)| (name, tensor.view().to_f64())).collect(),
        gradients: gradients.iter().map(|(id, tensor)| (id.name(), tensor.view().to_f64())).collect(),
    }
}

fn scratch(arena: &mut Arena, dtype: DType, vocabulary: usize) -> Scratch {
    Scratch::new(arena, dtype, 48, vocabulary).expect("fits")
}
