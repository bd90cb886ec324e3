//! The clipped policy loss per target, with KL to a reference and entropy bonus, and its coefficients for the head.
//!
//! With l = logp - behaviour, r = e^l or, by [`Ratio::Sequence`], e^(mean of l over the sequence), A the advantage,
//! c = clamp(r, 1 - low, 1 + high), and k(d) the [`Kl`] estimate of d = reference - logp:
//!
//! loss = sum w_policy (-min(r A, c A)) + kl sum w_kl k(d) - entropy sum w_entropy H
//!
//! dL/dlogp = w_policy (-r A where r A <= c A, else 0) + kl w_kl (-k'(d)); dL/dH = -entropy w_entropy.
//!
//! With a dual clip (arXiv 1912.09729) a target of negative advantage loses at most w_policy dual |A|, and has no slope beyond.
//!
//! All arguments are [N], one element a target, in the accumulator's dtype. The targets of a sequence stand together, all of
//! them, with one advantage and one weight, or 0 where they take no part: so by either ratio the slope of a target is that of
//! its own term. The weights carry
//! the normalisation over the whole optimizer step (grpo: mean per sequence, then over sequences; dapo: mean over tokens): this
//! only sums, in f64, in ascending order (on a GPU each sequence from zero, sequences in ascending order), continuing the sums
//! it is handed. Moves 10 N elements.
//!
//! Followed where TRL and verl differ: log-ratios are not clamped (TRL; verl clamps a token's at +-20, a sequence's at 10); the
//! entropy bonus has weights of its own, so that it can be TRL's mean over tokens whatever the policy term's normalisation; the
//! dual clip leaves positive advantages alone (verl; TRL's `delta` is the same where it is above 1 + high, as it has to be
//! here). Where r A = c A (no clipping) the gradient is that of r A.

mod kl;
mod launch;
mod policy;
mod ratio;
mod sums;
mod work;

use super::{OpError, expect_dims, expect_dtype};
use crate::device::{Device, Float, Stream};
use crate::dims;
use crate::tensor::{DType, Element, View, ViewMut};
use policy::Clipped;

pub use kl::Kl;
pub use ratio::Ratio;
pub use sums::LossSums;
pub use work::{Reference, work};

/// The loss's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GrpoLoss {
    /// Over what the ratio is taken.
    pub ratio: Ratio,
    /// Ratios below 1 - this are clipped.
    pub clip_low: f64,
    /// Ratios above 1 + this are clipped.
    pub clip_high: f64,
    /// Ratios above this are clipped where the advantage is negative; above 1 + `clip_high`. None: they are not.
    pub dual_clip: Option<f64>,
    /// Coefficient of the KL term.
    pub kl: f64,
    /// Which estimate the KL term is made of.
    pub kl_form: Kl,
    /// Coefficient of the entropy bonus.
    pub entropy: f64,
}

/// What is known of each target: [N] each.
#[derive(Clone, Copy, Debug)]
pub struct PolicyTokens<'a> {
    /// ln p under the weights that are trained.
    pub logprob: View<'a>,
    /// ln p under the weights that drew it.
    pub behaviour: View<'a>,
    /// ln p under the reference; needed when the KL coefficient is not 0.
    pub reference: Option<View<'a>>,
    /// Entropy of the policy.
    pub entropy: View<'a>,
    /// Advantage of the token's sequence.
    pub advantage: View<'a>,
    /// The sequence of the token, u32: equal neighbours are of one sequence.
    pub sequence: View<'a>,
    /// Weight in the policy term.
    pub weight: View<'a>,
    /// Weight in the KL term.
    pub kl_weight: View<'a>,
    /// Weight in the entropy bonus.
    pub entropy_weight: View<'a>,
}

/// The coefficients for [`head::gradient`](super::head::gradient): [N] each, overwritten.
#[derive(Debug)]
pub struct LossGradient<'a> {
    /// dL/dlogp.
    pub dlogprob: ViewMut<'a>,
    /// dL/dH.
    pub dentropy: ViewMut<'a>,
}

/// Adds the loss of these targets to `sums` and writes their coefficients.
///
/// # Errors
/// When shapes or dtypes do not fit, or the reference is missing although the KL coefficient is not 0.
pub fn forward_backward(
    stream: &Stream,
    tokens: PolicyTokens<'_>,
    settings: &GrpoLoss,
    out: LossGradient<'_>,
    sums: &mut LossSums,
) -> Result<(), OpError> {
    const OP: &str = "grpo_loss_forward_backward";
    check(OP, &tokens, settings, &out)?;
    match stream.launch(OP) {
        Device::Host(_) => crate::with_float!(tokens.logprob.dtype(), T => {
            body::<<T as Element>::Acc>(tokens, settings, out, sums);
        }),
        Device::Cuda(cuda) => launch::forward_backward((OP, cuda), tokens, settings, out, sums)?,
    }
    Ok(())
}

fn check(
    op: &'static str,
    tokens: &PolicyTokens<'_>,
    settings: &GrpoLoss,
    out: &LossGradient<'_>,
) -> Result<(), OpError> {
    let (dims, dtype) = (dims![N: tokens.logprob.dims().rows()], tokens.logprob.dtype());
    expect_dtype(op, "logprob", dtype, dtype.accumulator())?;
    let mut all = vec![
        ("logprob", tokens.logprob),
        ("behaviour", tokens.behaviour),
        ("entropy", tokens.entropy),
        ("advantage", tokens.advantage),
        ("weight", tokens.weight),
        ("kl_weight", tokens.kl_weight),
        ("entropy_weight", tokens.entropy_weight),
        ("dlogprob", out.dlogprob.view()),
        ("dentropy", out.dentropy.view()),
    ];
    all.extend(tokens.reference.map(|view| ("reference", view)));
    for (name, view) in all {
        expect_dims(op, name, view.dims(), dims)?;
        expect_dtype(op, name, view.dtype(), dtype)?;
    }
    expect_dims(op, "sequence", tokens.sequence.dims(), dims)?;
    expect_dtype(op, "sequence", tokens.sequence.dtype(), DType::U32)?;
    if settings.kl != 0.0 && tokens.reference.is_none() {
        let reason = "the KL term needs reference log-probabilities".to_string();
        return Err(OpError::Argument { op, reason });
    }
    Ok(())
}

fn body<A: Element<Acc = A> + Float>(
    tokens: PolicyTokens<'_>,
    settings: &GrpoLoss,
    out: LossGradient<'_>,
    sums: &mut LossSums,
) {
    let [logprob, behaviour, advantage, weight, entropy] =
        [tokens.logprob, tokens.behaviour, tokens.advantage, tokens.weight, tokens.entropy]
            .map(|view| view.host::<A>());
    let (dlogprob, dentropy) = (out.dlogprob.host_mut::<A>(), out.dentropy.host_mut::<A>());
    for run in settings.ratio.runs(tokens.sequence.ids()) {
        let [now, then, weights] = [logprob, behaviour, weight].map(|column| &column[run.clone()]);
        let log_ratio = ratio::mean_log_ratio(now, then, weights);
        let clipped = Clipped::new(log_ratio, settings);
        for i in run {
            dlogprob[i] = A::ZERO;
            if weight[i] != A::ZERO {
                dlogprob[i] = clipped.term((weight[i], advantage[i]), sums);
                sums.token_entropy += entropy[i].to_f64();
                let gap = (logprob[i] - behaviour[i]).abs().to_f64();
                sums.largest_gap = Float::max(sums.largest_gap, gap);
            }
            dlogprob[i] += kl_term(&tokens, i, settings, sums);
            dentropy[i] = entropy_term(&tokens, i, settings, sums);
        }
    }
}

/// Adds kl w k(d); gives its dL/dlogp.
fn kl_term<A: Element<Acc = A> + Float>(
    tokens: &PolicyTokens<'_>,
    i: usize,
    settings: &GrpoLoss,
    sums: &mut LossSums,
) -> A {
    let Some(reference) = tokens.reference else { return A::ZERO };
    let d = reference.host::<A>()[i] - tokens.logprob.host::<A>()[i];
    let estimate = settings.kl_form.estimate(d);
    if tokens.weight.host::<A>()[i] != A::ZERO {
        sums.kl_estimate += estimate.to_f64();
    }
    let weight = A::from_f64(settings.kl) * tokens.kl_weight.host::<A>()[i];
    if weight == A::ZERO {
        return A::ZERO;
    }
    let term = (weight * estimate).to_f64();
    sums.loss += term;
    sums.kl += term;
    weight * settings.kl_form.slope(d)
}

/// Adds -entropy w H; gives its dL/dH.
fn entropy_term<A: Element<Acc = A> + Float>(
    tokens: &PolicyTokens<'_>,
    i: usize,
    settings: &GrpoLoss,
    sums: &mut LossSums,
) -> A {
    let weight = -(A::from_f64(settings.entropy) * tokens.entropy_weight.host::<A>()[i]);
    if weight != A::ZERO {
        let term = (weight * tokens.entropy.host::<A>()[i]).to_f64();
        sums.loss += term;
        sums.entropy += term;
    }
    weight
}
