//! Loss variants: what each averages over, and which ratio it clips. One file a variant; the clipped term itself is
//! [`grpo_loss`](crate::ops::grpo_loss)'s.

mod dapo;
mod dr_grpo;
mod grpo;
mod gspo;

use serde::{Deserialize, Serialize};

use crate::ops::grpo_loss::Ratio;

pub use dapo::token_mean;
pub use dr_grpo::sum_over_constant;
pub use grpo::sequence_mean;

/// How the policy and KL terms are normalised over the whole optimizer step, and what is clipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Mean over a sequence's tokens, then over sequences (arXiv 2402.03300).
    #[default]
    Grpo,
    /// Sum over a sequence's tokens divided by a constant, then mean over sequences (arXiv 2503.20783).
    DrGrpo,
    /// Mean over all tokens (arXiv 2503.14476).
    Dapo,
    /// As grpo, with one ratio a sequence (arXiv 2507.18071).
    Gspo,
}

/// What a loss variant consists of.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Over what the clipped ratio is taken.
    pub ratio: Ratio,
    /// The weight of one token of each sequence, from the numbers of tokens that count and the constant length.
    pub weights: fn(lengths: &[usize], constant: usize) -> Vec<f64>,
}

impl Loss {
    /// Its parts.
    pub fn variant(self) -> Variant {
        match self {
            Self::Grpo => grpo::VARIANT,
            Self::DrGrpo => dr_grpo::VARIANT,
            Self::Dapo => dapo::VARIANT,
            Self::Gspo => gspo::VARIANT,
        }
    }
}

/// How many sequences have a token that counts.
fn counted(lengths: &[usize]) -> f64 {
    lengths.iter().filter(|&&n| n > 0).count().max(1) as f64
}
