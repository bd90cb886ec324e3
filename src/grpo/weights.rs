//! One weight per token, from the normalisation over the whole optimizer step; a new normalisation is one more function.

use super::Loss;

/// Mean over each sequence's tokens, then over sequences: 1 / (sequences * tokens). Sequences without a token do not count.
pub fn sequence_mean(lengths: &[usize]) -> Vec<f64> {
    let sequences = lengths.iter().filter(|&&n| n > 0).count() as f64;
    lengths.iter().map(|&n| if n == 0 { 0.0 } else { 1.0 / (sequences * n as f64) }).collect()
}

/// Mean over all tokens: 1 / tokens for every sequence.
pub fn token_mean(lengths: &[usize]) -> Vec<f64> {
    let tokens = lengths.iter().sum::<usize>().max(1) as f64;
    vec![1.0 / tokens; lengths.len()]
}

impl Loss {
    /// The weight of one token of each sequence, from the numbers of tokens that count.
    pub fn weights(self, lengths: &[usize]) -> Vec<f64> {
        match self {
            Self::Grpo => sequence_mean(lengths),
            Self::Dapo => token_mean(lengths),
        }
    }
}
