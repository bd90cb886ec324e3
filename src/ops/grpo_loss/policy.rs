//! The clipped policy term of one target.

use super::{GrpoLoss, LossSums};
use crate::device::Float;

/// The ratio of policy and behaviour that a target is weighed by, and where it is clipped.
#[derive(Clone, Copy)]
pub(super) struct Clipped<A> {
    ratio: A,
    low: A,
    high: A,
    dual: Option<A>,
}

impl<A: Float> Clipped<A> {
    pub(super) fn new(log_ratio: A, settings: &GrpoLoss) -> Self {
        let dual = settings.dual_clip.map(A::from_f64);
        let (low, high) = (A::from_f64(1.0 - settings.clip_low), A::from_f64(1.0 + settings.clip_high));
        Self { ratio: log_ratio.exp(), low, high, dual }
    }

    /// Adds -w min(r A, c A), where A < 0 at most -w dual A; gives its derivative by the log-ratio.
    pub(super) fn term(self, (weight, advantage): (A, A), sums: &mut LossSums) -> A {
        let Self { ratio, low, high, dual } = self;
        let (free, clipped) = (ratio * advantage, ratio.max(low).min(high) * advantage);
        let bound = dual.filter(|bound| advantage < A::ZERO && ratio > *bound);
        let gain = bound.map_or(free.min(clipped), |bound| bound * advantage);
        let term = -(weight * gain).to_f64();
        sums.loss += term;
        sums.policy += term;
        sums.tokens += 1;
        sums.ratio += ratio.to_f64();
        sums.clipped_low += u64::from(ratio < low && advantage < A::ZERO);
        sums.clipped_high += u64::from(ratio > high && advantage > A::ZERO);
        sums.clipped_dual += u64::from(bound.is_some());
        if free > clipped || bound.is_some() { A::ZERO } else { -(weight * free) }
    }
}
