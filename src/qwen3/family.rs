use super::LayerParam;
use super::LayerParam::{Down, Gate, InputNorm, K, KBias, KNorm, O, PostNorm, Q, QBias, QNorm, Up, V, VBias};

/// Which published architecture a model is: the same layers, with or without biases and norms per head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `Qwen3ForCausalLM`: queries and keys are normed per head.
    Qwen3,
    /// `Qwen2ForCausalLM`: queries, keys and values have biases.
    Qwen2,
    /// `LlamaForCausalLM`: neither.
    Llama,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 3] = [Self::Qwen3, Self::Qwen2, Self::Llama];

    /// `model_type` of its config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3 => "qwen3",
            Self::Qwen2 => "qwen2",
            Self::Llama => "llama",
        }
    }

    /// The entry of `architectures` in its config.json.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Llama => "LlamaForCausalLM",
        }
    }

    /// The weights of each of its layers, in the order in which the forward pass meets them.
    pub fn layer(self) -> &'static [LayerParam] {
        match self {
            Self::Qwen3 => &[InputNorm, Q, K, V, QNorm, KNorm, O, PostNorm, Gate, Up, Down],
            Self::Qwen2 => &[InputNorm, Q, QBias, K, KBias, V, VBias, O, PostNorm, Gate, Up, Down],
            Self::Llama => &[InputNorm, Q, K, V, O, PostNorm, Gate, Up, Down],
        }
    }

    /// Whether queries and keys are normed per head before they are rotated.
    pub(super) fn norms_heads(self) -> bool {
        self == Self::Qwen3
    }

    /// What is added to the product with `matrix`.
    pub(super) fn bias(self, matrix: LayerParam) -> Option<LayerParam> {
        match (self, matrix) {
            (Self::Qwen2, Q) => Some(QBias),
            (Self::Qwen2, K) => Some(KBias),
            (Self::Qwen2, V) => Some(VBias),
            _ => None,
        }
    }
}
