use super::Pass;
use crate::device::Stream;
use crate::grpo::Packed;
use crate::ops::head::{self, HeadInput, Logprobs};
use crate::ops::rows;
use crate::qwen3::{self, Model};
use crate::trainer::TrainError;

pub(super) fn as_batch(packed: &Packed) -> qwen3::Packed {
    qwen3::Packed {
        tokens: packed.tokens.clone(),
        positions: packed.positions.clone(),
        spans: packed.spans.clone(),
        slots: Vec::new(),
    }
}

/// Runs packed rows through a model and gathers the rows that predict targets into `pass.x`.
pub(super) fn forward(
    stream: &Stream,
    model: &Model,
    packed: &Packed,
    pass: &mut Pass,
) -> Result<qwen3::Packed, TrainError> {
    let batch = as_batch(packed);
    qwen3::forward(stream, model, &batch, &mut pass.activations, None)?;
    let n = packed.targets.ids.len();
    for (tensor, ids) in pass.ids.iter_mut().zip([&packed.targets.rows, &packed.targets.ids]) {
        tensor.rows_mut(0..n).write_ids(ids)?;
    }
    let hidden = pass.activations.hidden(batch.len());
    rows::gather(stream, hidden, pass.ids[0].rows(0..n), pass.x.rows_mut(0..n))?;
    Ok(batch)
}

/// ln p of every target under `model`, in the order of targets.
///
/// # Errors
/// When it does not fit the pass.
pub fn log_probabilities(
    stream: &Stream,
    model: &Model,
    packed: &Packed,
    inv_temperature: f64,
    pass: &mut Pass,
) -> Result<Vec<f64>, TrainError> {
    forward(stream, model, packed, pass)?;
    let n = packed.targets.ids.len();
    let w = model.params.get(model.params.head_id());
    let input = HeadInput { x: pass.x.rows(0..n), w, targets: pass.ids[1].rows(0..n), inv_temperature };
    let [logprob, lse, entropy, ..] = pass.columns.each_mut().map(|t| t.rows_mut(0..n));
    head::token_logprob(stream, input, &mut pass.scratch, Logprobs { logprob, lse, entropy })?;
    Ok(pass.columns[0].rows(0..n).read()?)
}
