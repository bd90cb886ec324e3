use super::{GrpoError, LossConfig, Packed};
use crate::device::Stream;
use crate::dims;
use crate::ops::grpo_loss::{self, LossGradient, LossSums, PolicyTokens};
use crate::tensor::{DType, Tensor, View};

/// What the trained weights say of the targets: [N] each, in the accumulator's dtype.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// ln p.
    pub logprob: View<'a>,
    /// Entropy, nats.
    pub entropy: View<'a>,
}

/// Adds the loss of a micro-batch to `sums` and writes the head's coefficients, [N] each.
///
/// # Errors
/// When shapes or dtypes do not fit, or the KL term lacks its reference.
pub fn evaluate(
    stream: &Stream,
    config: &LossConfig,
    packed: &Packed,
    measured: Measured<'_>,
    out: LossGradient<'_>,
    sums: &mut LossSums,
) -> Result<(), GrpoError> {
    let dtype = measured.logprob.dtype();
    let exact = |values: &[f64]| column(values.iter().copied(), dtype);
    let stored = |values: &[f32]| column(values.iter().map(|x| f64::from(*x)), dtype);
    let reference = (!packed.reference.is_empty()).then(|| stored(&packed.reference));
    let behaviour = stored(&packed.behaviour);
    let [advantage, weight, kl_weight, entropy_weight] =
        [&packed.advantage, &packed.weight, &packed.kl_weight, &packed.entropy_weight]
            .map(|values| exact(values));
    let sequence = Tensor::from_ids(&packed.targets.sequence, measured.logprob.dims());
    let tokens = PolicyTokens {
        logprob: measured.logprob,
        behaviour: behaviour.view(),
        reference: reference.as_ref().map(Tensor::view),
        entropy: measured.entropy,
        advantage: advantage.view(),
        sequence: sequence.view(),
        weight: weight.view(),
        kl_weight: kl_weight.view(),
        entropy_weight: entropy_weight.view(),
    };
    Ok(grpo_loss::forward_backward(stream, tokens, &config.settings(), out, sums)?)
}

/// dL/dlogp of the supervised loss -sum w ln p: what the head's gradient takes, [N] in `dtype`.
pub fn supervised(packed: &Packed, dtype: DType) -> Tensor {
    column(packed.weight.iter().map(|weight| -weight), dtype)
}

/// [N] numbers as a tensor of an accumulator's dtype.
fn column(values: impl ExactSizeIterator<Item = f64>, dtype: DType) -> Tensor {
    let dims = dims![N: values.len()];
    match dtype {
        DType::F64 => Tensor::from_slice(&values.collect::<Vec<f64>>(), dims),
        _ => Tensor::from_slice(&values.map(|x| x as f32).collect::<Vec<f32>>(), dims),
    }
}
