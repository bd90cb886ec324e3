use super::{Finding, Verdict};
use crate::bench::{BenchError, carve, tokens};
use crate::device::Stream;
use crate::dims;
use crate::ops::attention::{Source, Span};
use crate::ops::head::{self, HeadInput, Logprobs, Scratch};
use crate::qwen3::{Activations, Config, Keep, Model, Packed, forward};
use crate::tensor::{DType, Tensor};

/// The embedded default's model, whose log-probabilities every body is asked for.
const SHAPE: &str = include_str!("../../../models/demo/config.json");
/// Tokens of the two sequences.
const LENGTHS: [usize; 2] = [131, 37];

/// Log-probabilities of a whole model, on `stream` in `dtype`, held to twice the distance from f64 of the CPU's bf16.
pub(super) fn finding(stream: &Stream, dtype: DType, host: &Stream) -> Result<Finding, BenchError> {
    let config = Config::parse(SHAPE).expect("the embedded default's shape is a Qwen3's");
    let exact = log_probabilities(&config, host, DType::F64, host)?;
    let plain = distance(&log_probabilities(&config, host, DType::BF16, host)?, &exact);
    let got = distance(&log_probabilities(&config, stream, dtype, host)?, &exact);
    let allowed = 2.0 * plain + 1e-6;
    let verdict = if got <= allowed {
        Verdict::Near { distance: got, allowed }
    } else {
        let message = format!("|got - exact| / |exact| is {got}, {allowed} is allowed");
        Verdict::Failed { output: "logprob", index: None, got: Some(got), expected: Some(allowed), message }
    };
    let case = format!("{} layers, {} parameters", config.layers, config.parameters());
    Ok(Finding { check: "whole_model", case, dtype, on: super::core(stream), verdict })
}

/// |a - b| / |b|; not a number where an element is none.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

fn batch(config: &Config) -> Packed {
    let mut spans = Vec::new();
    let mut first = 0;
    for length in LENGTHS {
        spans.push(Span {
            queries: first..first + length,
            start: 0,
            source: Source::Packed { parent: None },
        });
        first += length;
    }
    let positions = LENGTHS.iter().flat_map(|length| 0..*length as u32).collect();
    Packed { tokens: tokens(first, config.vocabulary), positions, spans, slots: Vec::new() }
}

/// Of the next token at every place, weights the same bf16 numbers on every device and in every dtype.
fn log_probabilities(
    config: &Config,
    stream: &Stream,
    dtype: DType,
    host: &Stream,
) -> Result<Vec<f64>, BenchError> {
    let longest = LENGTHS.into_iter().max().expect("there are sequences");
    let n = LENGTHS.iter().sum();
    let mut weights = carve(host.device(), |arena| Model::new(config.clone(), DType::BF16, longest, arena))?;
    weights.initialise(host, 7)?;
    let (mut model, mut activations, mut scratch) = carve(stream.device(), |arena| {
        Ok((
            Model::new(config.clone(), dtype, longest, arena)?,
            Activations::new(config, dtype, Keep::All, n, arena)?,
            Scratch::new(arena, dtype, 64, config.vocabulary)?,
        ))
    })?;
    for (id, tensor) in model.params.iter_mut() {
        tensor.view_mut().write_f64(weights.params.get(id).read()?.into_iter())?;
    }
    let batch = batch(config);
    forward(stream, &model, &batch, &mut activations, None)?;
    let mut targets = Tensor::on(stream.device(), DType::U32, dims![N: n])?;
    let mut ids = batch.tokens.clone();
    ids.rotate_left(1);
    targets.view_mut().write_ids(&ids)?;
    let column = || Tensor::on(stream.device(), dtype.accumulator(), dims![N: n]);
    let mut out = [column()?, column()?, column()?];
    let [logprob, lse, entropy] = out.each_mut().map(Tensor::view_mut);
    let input = HeadInput {
        x: activations.hidden(n),
        w: model.params.get(model.params.head_id()),
        targets: targets.view(),
        inv_temperature: 1.0,
    };
    head::token_logprob(stream, input, &mut scratch, Logprobs { logprob, lse, entropy })?;
    Ok(out[0].view().read()?)
}
