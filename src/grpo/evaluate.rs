use super::{GrpoError, LossConfig, Packed};
use crate::device::{DeviceError, Stream};
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
    let column = |values: &mut dyn ExactSizeIterator<Item = f64>| column(stream, values, dtype);
    let stored = |values: &[f32]| column(&mut values.iter().map(|x| f64::from(*x)));
    let exact = |values: &[f64]| column(&mut values.iter().copied());
    let reference = (!packed.reference.is_empty()).then(|| stored(&packed.reference)).transpose()?;
    let behaviour = stored(&packed.behaviour)?;
    let (advantage, weight) = (exact(&packed.advantage)?, exact(&packed.weight)?);
    let (kl_weight, entropy_weight) = (exact(&packed.kl_weight)?, exact(&packed.entropy_weight)?);
    let mut sequence = Tensor::on(stream.device(), DType::U32, measured.logprob.dims())?;
    sequence.view_mut().write_ids(&packed.targets.sequence)?;
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
///
/// # Errors
/// When the device has no room.
pub fn supervised(stream: &Stream, packed: &Packed, dtype: DType) -> Result<Tensor, DeviceError> {
    column(stream, &mut packed.weight.iter().map(|weight| -weight), dtype)
}

/// [N] numbers as a tensor of an accumulator's dtype.
fn column(
    stream: &Stream,
    values: &mut dyn ExactSizeIterator<Item = f64>,
    dtype: DType,
) -> Result<Tensor, DeviceError> {
    let mut tensor = Tensor::on(stream.device(), dtype, dims![N: values.len()])?;
    tensor.view_mut().write_f64(values)?;
    Ok(tensor)
}
