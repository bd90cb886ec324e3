//! Twenty AdamW steps of supervised fine-tuning against torch: packing, forward, head, backward, clip and update together.

use patarm::dims;
use patarm::grpo::{Example, Packed, pack_examples, supervised};
use patarm::ops::adamw::{Param, Rounding};
use patarm::ops::head::{self, Coefficients, HeadGradient, HeadInput, Logprobs, Lse, Scratch};
use patarm::ops::rows;
use patarm::optimizer::{Decay, OptimizerConfig, Parameter, Update, update};
use patarm::qwen3::{self, Accumulate, Activations, BackwardBuffers, BackwardPass, Keep, Model, Params};
use patarm::tensor::{Arena, DType, Tensor};

use patarm::device::Stream;

use super::golden::{Golden, apart, arena, stream};

/// What a run of the golden steps gives.
struct Run {
    losses: Vec<f64>,
    norms: Vec<f64>,
    model: Model,
}

pub(crate) fn settings(golden: &Golden) -> OptimizerConfig {
    let told = golden.settings("optimizer");
    let number = |key: &str| told[key].as_f64().expect("a number");
    OptimizerConfig {
        lr: number("lr"),
        beta1: told["betas"][0].as_f64().expect("a number"),
        beta2: told["betas"][1].as_f64().expect("a number"),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
        max_norm: number("max_grad_norm"),
        ..OptimizerConfig::default()
    }
}

/// The packed batch of one step, from the rows' lengths and prompt lengths.
pub(crate) fn batch(tokens: &[u32], rows: &[u32]) -> Packed {
    let mut rest = tokens;
    let cut = |row: &[u32]| {
        let (sequence, after) = rest.split_at(row[0] as usize);
        rest = after;
        let (prompt, completion) = sequence.split_at(row[1] as usize);
        Example { prompt, completion }
    };
    let examples: Vec<_> = rows.chunks(2).map(cut).collect();
    // Leaves of at most 20 rows: the step is cut into several.
    Packed::join(&pack_examples(&examples, 20).expect("every row fits a leaf").leaves)
}

/// One forward and backward pass; gives the loss.
fn pass(stream: &Stream, model: &Model, packed: &Packed, gradients: &mut Params, arena: &mut Arena) -> f64 {
    let (c, dtype, sums) = (&model.config, model.dtype, model.dtype.accumulator());
    let (n, m) = (packed.tokens.len(), packed.targets.ids.len());
    let batch = qwen3::Packed {
        tokens: packed.tokens.clone(),
        positions: packed.positions.clone(),
        spans: packed.spans.clone(),
        slots: Vec::new(),
    };
    let mut buffers = Activations::new(c, dtype, Keep::All, n, arena).expect("fits");
    qwen3::forward(stream, model, &batch, &mut buffers, None).expect("fits");
    let ids = |values: &[u32]| Tensor::from_ids(values, dims![N: values.len()]);
    let (from, targets) = (ids(&packed.targets.rows), ids(&packed.targets.ids));
    let [mut x, mut dx] = std::array::from_fn(|_| Tensor::zeros(dtype, dims![N: m, C: c.hidden]));
    rows::gather(stream, buffers.hidden(n), from.view(), x.view_mut()).expect("fits");
    let [mut logprob, mut lse, mut entropy] = std::array::from_fn(|_| Tensor::zeros(sums, dims![N: m]));
    let fresh = Logprobs { logprob: logprob.view_mut(), lse: lse.view_mut(), entropy: entropy.view_mut() };
    let w = model.params.get(model.params.head_id());
    let input = HeadInput { x: x.view(), w, targets: targets.view(), inv_temperature: 1.0 };
    let dlogprob = supervised(stream, packed, sums).expect("room");
    let coefficients = Coefficients { dlogprob: dlogprob.view(), dentropy: None };
    let mut scratch = Scratch::new(arena, dtype, 16, c.vocabulary).expect("fits");
    let out = HeadGradient { dx: dx.view_mut(), dw: gradients.find_mut(gradients.head_id()) };
    let leaves = (&packed.target_leaves(), &mut scratch);
    head::gradient(stream, input, coefficients, Lse::Fresh(fresh), leaves, out).expect("fits");
    let mut dhidden = Tensor::zeros(dtype, dims![N: n, C: c.hidden]);
    rows::scatter(stream, dx.view(), from.view(), dhidden.view_mut()).expect("fits");
    let mut flowing = BackwardBuffers::new(c, dtype, n, arena).expect("fits");
    let pass = BackwardPass { stream, model, batch: &batch, leaves: &packed.leaves() };
    qwen3::backward(pass, dhidden.view(), &mut buffers, &mut flowing, &mut Accumulate(gradients))
        .expect("fits");
    let logprobs = logprob.view().to_f64();
    -packed.weight.iter().zip(logprobs).map(|(w, logprob)| w * logprob).sum::<f64>()
}

fn train(golden: &Golden, dtype: DType) -> Run {
    let stream = stream();
    let mut fixed = arena(&stream);
    let mut model = golden.model(dtype, &mut fixed);
    let sums = dtype.accumulator();
    let [mut gradients, mut first, mut second] =
        std::array::from_fn(|_| Params::uniform(&model.config, sums, &mut fixed).expect("fits"));
    let (tokens, rows) = (golden.ids("tokens"), golden.ids("rows"));
    let per_step: u32 = rows.chunks(2).map(|row| row[0]).sum();
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for (i, tokens) in tokens.chunks(per_step as usize).enumerate() {
        gradients.zero().expect("a CPU");
        let packed = batch(tokens, &rows);
        losses.push(pass(&stream, &model, &packed, &mut gradients, &mut arena(&stream)));
        let names: Vec<String> = model.params.iter().map(|(id, _)| id.name()).collect();
        let moments = first.iter_mut().zip(second.iter_mut());
        let tensors = model.params.iter_mut().zip(gradients.iter()).zip(moments).zip(&names);
        let parameters = tensors.map(|((((id, w), (_, g)), ((_, m), (_, v))), name)| Parameter {
            name,
            param: Param {
                w: w.view_mut(),
                g: g.view(),
                m: m.view_mut(),
                v: v.view_mut(),
                scales: None,
                master: None,
            },
            decay: if id.is_vector() { Decay::No } else { Decay::Yes },
            rounding: Rounding::Nearest,
        });
        match update(&stream, &settings(golden), i as u64 + 1, parameters).expect("fitting arguments") {
            Update::Applied { norm, .. } => norms.push(norm),
            left_out => panic!("step {i}: {left_out:?}"),
        }
    }
    Run { losses, norms, model }
}

pub(crate) fn worst_relative(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!((ours.len(), theirs.len()), (20, 20));
    ours.iter()
        .zip(theirs)
        .map(|(a, b)| ((a - b) / b).abs())
        .fold(0.0, |worst, d| if d <= worst { worst } else { d })
}

#[test]
fn in_f64_losses_norms_and_final_weights_are_torchs() {
    let golden = Golden::open("sft");
    let run = train(&golden, DType::F64);
    let losses = worst_relative(&run.losses, &golden.values("f64.losses"));
    assert!(losses <= 1e-10, "losses differ by {losses:e}");
    let norms = worst_relative(&run.norms, &golden.values("f64.norms"));
    assert!(norms <= 1e-10, "gradient norms differ by {norms:e}");
    for (id, tensor) in run.model.params.iter() {
        let difference = apart(&tensor.view().to_f64(), &golden.values(&format!("f64.final.{}", id.name())));
        assert!(difference <= 1e-9, "{}: differs by {difference:e}", id.name());
    }
}

#[test]
fn in_f32_losses_are_those_of_transformers() {
    let golden = Golden::open("sft");
    let run = train(&golden, DType::F32);
    let losses = worst_relative(&run.losses, &golden.values("f32.losses"));
    assert!(losses <= 1e-5, "losses differ by {losses:e}");
    let norms = worst_relative(&run.norms, &golden.values("f32.norms"));
    assert!(norms <= 1e-4, "gradient norms differ by {norms:e}");
}

#[test]
fn the_golden_steps_clip_sometimes_and_learn() {
    let golden = Golden::open("sft");
    let (norms, losses) = (golden.values("f64.norms"), golden.values("f64.losses"));
    let clipped = norms.iter().filter(|&&norm| norm > settings(&golden).max_norm).count();
    assert!((1..20).contains(&clipped));
    assert!(losses[19] < losses[0]);
}
