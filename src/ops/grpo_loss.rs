//! The clipped policy loss of GRPO per token, with KL to a reference (k3) and entropy bonus, and its coefficients for the head.
//!
//! With r = e^(logp - behaviour), A the advantage, c = clamp(r, 1 - low, 1 + high) and d = reference - logp:
//!
//! loss = sum w_policy (-min(r A, c A)) + kl sum w_kl (e^d - d - 1) - entropy sum w_entropy H
//!
//! dL/dlogp = w_policy (-r A where r A <= c A, else 0) + kl w_kl (1 - e^d); dL/dH = -entropy w_entropy.
//!
//! All arguments are [N], one element a target, in the accumulator's dtype. The weights carry the normalisation over the whole
//! optimizer step (grpo: mean per sequence, then over sequences; dapo: mean over tokens): this only sums, in f64, in ascending
//! order, continuing the sums it is handed. Moves 10 N elements.
//!
//! Followed where TRL and verl differ: ratios are not clamped at e^20 (TRL); the entropy bonus has weights of its own, so that
//! it can be TRL's mean over tokens whatever the policy term's normalisation; there is no dual clip
//! (TRL's default). Where r A = c A (no clipping) the gradient is that of r A.

use super::{OpError, expect_dims, expect_dtype};
use crate::device::{Device, Float, Stream};
use crate::dims;
use crate::tensor::{Element, View, ViewMut};

/// The loss's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GrpoLoss {
    /// Ratios below 1 - this are clipped.
    pub clip_low: f64,
    /// Ratios above 1 + this are clipped.
    pub clip_high: f64,
    /// Coefficient of the KL term.
    pub kl: f64,
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
    /// ln p under the frozen reference; needed when the KL coefficient is not 0.
    pub reference: Option<View<'a>>,
    /// Entropy of the policy.
    pub entropy: View<'a>,
    /// Advantage of the token's sequence.
    pub advantage: View<'a>,
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

/// Sums over the step's targets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// The loss.
    pub loss: f64,
    /// Its policy term.
    pub policy: f64,
    /// Its KL term, coefficient included.
    pub kl: f64,
    /// Its entropy term, coefficient and sign included.
    pub entropy: f64,
    /// Number of targets with a policy weight; the sums below are over these.
    pub tokens: u64,
    /// Targets clipped at 1 - low (with a negative advantage).
    pub clipped_low: u64,
    /// Targets clipped at 1 + high (with a positive advantage).
    pub clipped_high: u64,
    /// Sum of the ratios.
    pub ratio: f64,
    /// Sum of the k3 estimates, no weights.
    pub kl_estimate: f64,
    /// Sum of the entropies, no weights, nats.
    pub token_entropy: f64,
    /// Largest |logp - behaviour|: 0 when the step is on-policy to the bit.
    pub largest_gap: f64,
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
        Device::Cuda(cuda) => match *cuda {},
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
    if settings.kl != 0.0 && tokens.reference.is_none() {
        let reason = "the KL term needs reference log-probabilities".to_string();
        return Err(OpError::Argument { op, reason });
    }
    Ok(())
}

/// One target.
#[derive(Clone, Copy)]
struct Token<A> {
    logprob: A,
    behaviour: A,
    reference: Option<A>,
    entropy: A,
    advantage: A,
    weight: A,
    kl_weight: A,
    entropy_weight: A,
}

fn body<A: Element<Acc = A> + Float>(
    tokens: PolicyTokens<'_>,
    settings: &GrpoLoss,
    out: LossGradient<'_>,
    sums: &mut LossSums,
) {
    let column = |view: View<'_>, i: usize| view.host::<A>()[i];
    let (dlogprob, dentropy) = (out.dlogprob.host_mut::<A>(), out.dentropy.host_mut::<A>());
    for (i, (dlogprob, dentropy)) in dlogprob.iter_mut().zip(dentropy).enumerate() {
        let token = Token {
            logprob: column(tokens.logprob, i),
            behaviour: column(tokens.behaviour, i),
            reference: tokens.reference.map(|view| column(view, i)),
            entropy: column(tokens.entropy, i),
            advantage: column(tokens.advantage, i),
            weight: column(tokens.weight, i),
            kl_weight: column(tokens.kl_weight, i),
            entropy_weight: column(tokens.entropy_weight, i),
        };
        *dlogprob = policy_term(&token, settings, sums) + kl_term(&token, settings, sums);
        *dentropy = entropy_term(&token, settings, sums);
    }
}

/// Adds -w min(r A, c A); gives its dL/dlogp.
fn policy_term<A: Float>(token: &Token<A>, settings: &GrpoLoss, sums: &mut LossSums) -> A {
    if token.weight == A::ZERO {
        return A::ZERO;
    }
    let (low, high) = (A::from_f64(1.0 - settings.clip_low), A::from_f64(1.0 + settings.clip_high));
    let ratio = (token.logprob - token.behaviour).exp();
    let (free, clipped) = (ratio * token.advantage, ratio.max(low).min(high) * token.advantage);
    let term = -(token.weight * free.min(clipped));
    sums.loss += term.to_f64();
    sums.policy += term.to_f64();
    sums.tokens += 1;
    sums.ratio += ratio.to_f64();
    sums.token_entropy += token.entropy.to_f64();
    sums.clipped_low += u64::from(ratio < low && token.advantage < A::ZERO);
    sums.clipped_high += u64::from(ratio > high && token.advantage > A::ZERO);
    sums.largest_gap = Float::max(sums.largest_gap, (token.logprob - token.behaviour).abs().to_f64());
    if free > clipped { A::ZERO } else { -(token.weight * free) }
}

/// Adds kl w (e^d - d - 1); gives its dL/dlogp.
fn kl_term<A: Float>(token: &Token<A>, settings: &GrpoLoss, sums: &mut LossSums) -> A {
    let Some(reference) = token.reference else { return A::ZERO };
    let d = reference - token.logprob;
    let estimate = d.exp() - d - A::ONE;
    if token.weight != A::ZERO {
        sums.kl_estimate += estimate.to_f64();
    }
    let weight = A::from_f64(settings.kl) * token.kl_weight;
    if weight == A::ZERO {
        return A::ZERO;
    }
    let term = (weight * estimate).to_f64();
    sums.loss += term;
    sums.kl += term;
    weight * (A::ONE - d.exp())
}

/// Adds -entropy w H; gives its dL/dH.
fn entropy_term<A: Float>(token: &Token<A>, settings: &GrpoLoss, sums: &mut LossSums) -> A {
    let weight = -(A::from_f64(settings.entropy) * token.entropy_weight);
    if weight != A::ZERO {
        let term = (weight * token.entropy).to_f64();
        sums.loss += term;
        sums.entropy += term;
    }
    weight
}
