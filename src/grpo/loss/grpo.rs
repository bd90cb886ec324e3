//! GRPO (arXiv 2402.03300). Followed where TRL and verl differ: sequences without a token do not count (verl; TRL counts them),
//! lengths stay whole (TRL; verl adds 1e-8).

use super::{Variant, counted};
use crate::ops::grpo_loss::Ratio;

pub(super) const VARIANT: Variant =
    Variant { ratio: Ratio::Token, weights: |lengths, _| sequence_mean(lengths) };

/// Mean over each sequence's tokens, then over sequences: 1 / (sequences * tokens). Sequences without a token do not count.
pub fn sequence_mean(lengths: &[usize]) -> Vec<f64> {
    let sequences = counted(lengths);
    lengths.iter().map(|&n| if n == 0 { 0.0 } else { 1.0 / (sequences * n as f64) }).collect()
}
