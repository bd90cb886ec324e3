use serde_json::{Map, Value, json};

use super::{Family, LowRank};
use crate::tensor::{DType, Dims};

/// Shape of a model, as `config.json` of a Hugging Face folder gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Architecture.
    pub family: Family,
    /// V, rows of the embedding, padding rows included.
    pub vocabulary: usize,
    /// C.
    pub hidden: usize,
    /// F.
    pub feed_forward: usize,
    /// L.
    pub layers: usize,
    /// H.
    pub heads: usize,
    /// KVH; divides H.
    pub kv_heads: usize,
    /// D; need not be C / H.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Longest sequence, tokens.
    pub positions: usize,
    /// What is added to matrices that stay as they are; config.json knows nothing of it.
    pub adapter: Option<LowRank>,
    /// Keys that this engine does not compute with (token ids, initializer range, ...), kept for saving.
    pub other: Map<String, Value>,
}

impl Config {
    /// The `config.json` that `transformers` reads back.
    pub fn to_json(&self, dtype: DType) -> String {
        let dtype = match dtype {
            DType::BF16 => "bfloat16",
            DType::F64 => "float64",
            _ => "float32",
        };
        let mut keys = self.other.clone();
        let typed = json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.model_type(),
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": null,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.positions,
            "torch_dtype": dtype,
        });
        keys.extend(typed.as_object().cloned().unwrap_or_default());
        keys.extend(self.family.switched_off().iter().map(|key| ((*key).to_owned(), false.into())));
        serde_json::to_string_pretty(&Value::Object(keys)).expect("a JSON object can be written") + "\n"
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        super::ParamId::all(self).map(|id| id.dims(self).count()).sum()
    }

    /// Weights that a token is multiplied with: all but the embedding table where it is only looked up.
    pub fn linear_parameters(&self) -> usize {
        let table = self.vocabulary * self.hidden;
        self.parameters() - if self.tied { 0 } else { table }
    }

    /// H D, the width of queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// KVH D, the width of keys and of values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    pub(crate) fn dims_per_token(&self, axis: crate::tensor::Axis, size: usize, tokens: usize) -> Dims {
        Dims::new(&[(crate::tensor::Axis::N, tokens), (axis, size)])
    }
}
