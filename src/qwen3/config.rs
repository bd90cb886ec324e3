use serde_json::{Map, Value, json};

use crate::tensor::{DType, Dims};

/// Shape of a Qwen3 model, as `config.json` of a Hugging Face folder gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
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
    /// Keys that this engine does not compute with (token ids, initializer range, ...), kept for saving.
    pub other: Map<String, Value>,
}

/// Why a `config.json` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or not an object.
    #[error("config.json: {0}")]
    Json(String),
    /// A key is missing or has the wrong type or range.
    #[error("config.json: `{key}` is {got}, expected {expected}")]
    Key {
        /// Name.
        key: &'static str,
        /// What stands there.
        got: String,
        /// What should.
        expected: &'static str,
    },
}

/// Keys that the typed fields hold; everything else goes to `other`.
const TYPED: [&str; 20] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
    "rope_parameters",
    "tie_word_embeddings",
    "max_position_embeddings",
    "torch_dtype",
    "dtype",
    "architectures",
    "model_type",
    "hidden_act",
    "attention_bias",
    "rope_scaling",
    "use_sliding_window",
];

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// When it is not a dense Qwen3 without extensions that this engine lacks (attention bias, rope scaling, sliding windows).
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let keys: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| ConfigError::Json(e.to_string()))?;
        let fields = Fields(&keys);
        fields.refuse_extensions()?;
        let mut other = keys.clone();
        other.retain(|key, _| !TYPED.contains(&key.as_str()));
        let config = Self {
            vocabulary: fields.size("vocab_size")?,
            hidden: fields.size("hidden_size")?,
            feed_forward: fields.size("intermediate_size")?,
            layers: fields.size("num_hidden_layers")?,
            heads: fields.size("num_attention_heads")?,
            kv_heads: fields.size("num_key_value_heads")?,
            head_dim: if keys.contains_key("head_dim") { fields.size("head_dim")? } else { 128 },
            norm_eps: fields.number("rms_norm_eps", keys.get("rms_norm_eps"))?,
            rope_theta: fields.number("rope_theta", fields.rope("rope_theta"))?,
            tied: keys.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            positions: fields.size("max_position_embeddings")?,
            other,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, got: usize, expected| Err(ConfigError::Key { key, got: got.to_string(), expected });
        match () {
            () if !self.heads.is_multiple_of(self.kv_heads) => {
                wrong("num_key_value_heads", self.kv_heads, "a divisor of num_attention_heads")
            }
            () if !self.head_dim.is_multiple_of(2) => {
                wrong("head_dim", self.head_dim, "an even number (rotary pairs)")
            }
            () => Ok(()),
        }
    }

    /// The `config.json` that `transformers` reads back.
    pub fn to_json(&self, dtype: DType) -> String {
        let dtype = match dtype {
            DType::BF16 => "bfloat16",
            DType::F64 => "float64",
            _ => "float32",
        };
        let mut keys = self.other.clone();
        let typed = json!({
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "attention_bias": false,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": null,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.positions,
            "use_sliding_window": false,
            "torch_dtype": dtype,
        });
        keys.extend(typed.as_object().cloned().unwrap_or_default());
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

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn size(&self, key: &'static str) -> Result<usize, ConfigError> {
        let value = self.0.get(key);
        let size = value.and_then(Value::as_u64).filter(|&n| n > 0 && n < 1 << 32);
        size.map(|n| n as usize).ok_or_else(|| wrong(key, value, "a positive whole number"))
    }

    fn number(&self, key: &'static str, value: Option<&Value>) -> Result<f64, ConfigError> {
        let number = value.and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0);
        number.ok_or_else(|| wrong(key, value, "a positive number"))
    }

    /// Newer folders keep rotary settings in an object of their own.
    fn rope(&self, key: &str) -> Option<&'a Value> {
        self.0.get("rope_parameters").and_then(|p| p.get(key)).or_else(|| self.0.get(key))
    }

    fn refuse_extensions(&self) -> Result<(), ConfigError> {
        let model = self.0.get("model_type");
        if model.is_some_and(|m| m != "qwen3") {
            return Err(wrong("model_type", model, "qwen3"));
        }
        for (key, plain) in [("attention_bias", false), ("use_sliding_window", false)] {
            if self.0.get(key).is_some_and(|v| v != plain) {
                return Err(wrong(key, self.0.get(key), "false"));
            }
        }
        if self.0.get("rope_scaling").is_some_and(|v| !v.is_null()) {
            return Err(wrong("rope_scaling", self.0.get("rope_scaling"), "null"));
        }
        let kind = self.rope("rope_type");
        if kind.is_some_and(|k| k != "default") {
            return Err(wrong("rope_parameters", kind, "rope_type default"));
        }
        let act = self.0.get("hidden_act");
        if act.is_some_and(|a| a != "silu") { Err(wrong("hidden_act", act, "silu")) } else { Ok(()) }
    }
}

fn wrong(key: &'static str, got: Option<&Value>, expected: &'static str) -> ConfigError {
    ConfigError::Key { key, got: got.map_or_else(|| "missing".into(), Value::to_string), expected }
}
