//! DAPO (arXiv 2503.14476): every token of the step weighs the same. Its clip-higher is `loss.clip_high`.

use super::Variant;
use crate::ops::grpo_loss::Ratio;

pub(super) const VARIANT: Variant =
    Variant { ratio: Ratio::Token, weights: |lengths, _| token_mean(lengths) };

/// Mean over all tokens: 1 / tokens for every sequence.
pub fn token_mean(lengths: &[usize]) -> Vec<f64> {
    let tokens = lengths.iter().sum::<usize>().max(1) as f64;
    vec![1.0 / tokens; lengths.len()]
}
