use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::tokenizer::TokenId;

/// How tokens were drawn. Truncation restricts what is drawn, never the log-probability that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Softmax temperature; 0 means greedy. The policy is `log_softmax(logits / T)` over all V rows.
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens whose probability reaches `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the most likely one; 0 keeps all.
    pub min_p: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

/// The counter-based key of one rollout's random numbers; a token's draw adds its position and vocabulary id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeedKey {
    /// The user's seed.
    pub run: u64,
    /// Training step (0 outside training).
    pub step: u64,
    /// Group: the index of the prompt within the step.
    pub group: u32,
    /// Sample within the group.
    pub sample: u32,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// An end-of-sequence token was drawn (it is the completion's last token).
    Stop,
    /// The token limit was reached first: the text is cut off.
    Length,
}

/// One sampled completion and everything training needs to know about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Prompt tokens, shared by the whole group.
    pub prompt: Arc<[TokenId]>,
    /// Index of the prompt within the step.
    pub group: u32,
    /// The tokens after the prompt, the end-of-sequence token included; all drawn but the `forced` ones.
    pub completion: Vec<TokenId>,
    /// Log-probability of each token under `log_softmax(logits / T)`, nats.
    pub logprob: Vec<f32>,
    /// Log-sum-exp of `logits / T` at each token.
    pub lse: Vec<f32>,
    /// Entropy of the policy at each token, nats.
    pub entropy: Vec<f32>,
    /// Positions within `completion`, ascending, of tokens that were put there and not drawn (the end of a thought over its
    /// budget). Their columns say what the policy thought of them; no loss weighs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<u32>,
    /// How it was drawn.
    pub sampling: Sampling,
    /// Version of the weights that drew it: the number of optimizer updates so far.
    pub weights_version: u64,
    /// Key of its random numbers.
    pub seed: SeedKey,
    /// Why it ended.
    pub finish: Finish,
}

impl Rollout {
    /// Number of tokens that the policy drew: those that a loss may weigh.
    pub fn drawn(&self) -> usize {
        self.completion.len() - self.forced.len()
    }
}
