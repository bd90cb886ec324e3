//! Dr. GRPO (arXiv 2503.20783): no length of its own divides a sequence's sum, so that long wrong answers are not let off.
//! Followed where TRL and verl differ: sequences without a token do not count (verl's `seq-mean-token-sum-norm`; TRL counts them).

use super::{Variant, counted};
use crate::ops::grpo_loss::Ratio;

pub(super) const VARIANT: Variant = Variant { ratio: Ratio::Token, weights: sum_over_constant };

/// Sum over each sequence's tokens divided by `constant`, then mean over sequences: 1 / (sequences * constant).
pub fn sum_over_constant(lengths: &[usize], constant: usize) -> Vec<f64> {
    vec![1.0 / (counted(lengths) * constant as f64); lengths.len()]
}
