use serde_json::{Map, Value};

use super::{Config, Family};

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

/// Keys that the typed fields hold or that have one value only; everything else goes to `other`.
const TYPED: [&str; 24] = [
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
    "mlp_bias",
    "rope_scaling",
    "rope_interleaved",
    "use_sliding_window",
    "use_mrope",
    "partial_rotary_factor",
];

/// Base of the rotary frequencies where config.json has none: that of `transformers`.
const ROPE_THETA: f64 = 10_000.0;

/// D of a Qwen3 whose config.json does not say.
const QWEN3_HEAD_DIM: usize = 128;

impl Config {
    /// Reads a `config.json`. What it may leave out means what it means to `transformers`: no `head_dim` is hidden size by heads
    /// (Qwen3: 128), no `rope_theta` is 10000, no `tie_word_embeddings` is false, a Llama's missing `num_key_value_heads` is the
    /// number of heads.
    ///
    /// # Errors
    /// When it is not a dense Qwen3, Qwen2 or Llama without extensions that this engine lacks (other biases, rope scaling,
    /// sliding windows).
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let keys: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| ConfigError::Json(e.to_string()))?;
        let fields = Fields(&keys);
        let family = fields.family()?;
        fields.refuse_extensions()?;
        let (hidden, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
        let mut other = keys.clone();
        other.retain(|key, _| !TYPED.contains(&key.as_str()));
        let config = Self {
            family,
            vocabulary: fields.size("vocab_size")?,
            hidden,
            feed_forward: fields.size("intermediate_size")?,
            layers: fields.size("num_hidden_layers")?,
            heads,
            kv_heads: match fields.told("num_key_value_heads") {
                None if family == Family::Llama => heads,
                _ => fields.size("num_key_value_heads")?,
            },
            head_dim: match fields.told("head_dim") {
                None => fields.usual_head_dim(family, hidden, heads)?,
                Some(_) => fields.size("head_dim")?,
            },
            norm_eps: fields.number("rms_norm_eps", fields.told("rms_norm_eps"))?,
            rope_theta: match fields.rope("rope_theta") {
                None => ROPE_THETA,
                theta => fields.number("rope_theta", theta)?,
            },
            tied: fields.told("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            positions: fields.size("max_position_embeddings")?,
            adapter: None,
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
}

impl Family {
    /// Switches of its config.json that this engine reads only as off.
    pub(super) fn switched_off(self) -> &'static [&'static str] {
        match self {
            Self::Qwen3 => &["attention_bias", "use_sliding_window"],
            Self::Qwen2 => &["use_sliding_window"],
            Self::Llama => &["attention_bias", "mlp_bias"],
        }
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// What stands there; null is nothing.
    fn told(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn size(&self, key: &'static str) -> Result<usize, ConfigError> {
        let value = self.0.get(key);
        let size = value.and_then(Value::as_u64).filter(|&n| n > 0 && n < 1 << 32);
        size.map(|n| n as usize).ok_or_else(|| wrong(key, value, "a positive whole number"))
    }

    fn number(&self, key: &'static str, value: Option<&Value>) -> Result<f64, ConfigError> {
        let number = value.and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0);
        number.ok_or_else(|| wrong(key, value, "a positive number"))
    }

    /// By `model_type`; `architectures`, where it stands, must agree.
    fn family(&self) -> Result<Family, ConfigError> {
        let model = self.told("model_type");
        let family = Family::ALL.into_iter().find(|family| model.is_some_and(|m| m == family.model_type()));
        let family = family.ok_or_else(|| wrong("model_type", model, "qwen3, qwen2 or llama"))?;
        match self.told("architectures") {
            Some(named) if named.get(0).is_none_or(|name| name != family.architecture()) => {
                Err(wrong("architectures", Some(named), "[\"Qwen3ForCausalLM\"], or that of Qwen2 or Llama"))
            }
            _ => Ok(family),
        }
    }

    fn usual_head_dim(&self, family: Family, hidden: usize, heads: usize) -> Result<usize, ConfigError> {
        match family {
            Family::Qwen3 => Ok(QWEN3_HEAD_DIM),
            _ if hidden.is_multiple_of(heads) => Ok(hidden / heads),
            _ => Err(wrong("head_dim", None, "a number, as num_attention_heads does not divide hidden_size")),
        }
    }

    /// Newer folders keep rotary settings in an object of their own, and read it by either name.
    fn rope(&self, key: &str) -> Option<&'a Value> {
        let within =
            ["rope_scaling", "rope_parameters"].into_iter().find_map(|name| self.told(name)?.get(key));
        within.or_else(|| self.told(key))
    }

    fn refuse_extensions(&self) -> Result<(), ConfigError> {
        let off = ["attention_bias", "mlp_bias", "use_sliding_window", "use_mrope", "rope_interleaved"];
        if let Some(key) = off.into_iter().find(|key| self.told(key).is_some_and(|v| v != false)) {
            return Err(wrong(key, self.told(key), "false"));
        }
        let scaling = self.told("rope_scaling");
        let kind = |scaling: &'a Value| scaling.get("rope_type").or_else(|| scaling.get("type"));
        if scaling.is_some_and(|scaling| kind(scaling).is_none_or(|kind| kind != "default")) {
            return Err(wrong(
                "rope_scaling",
                scaling,
                "null: scaled rotary frequencies are not implemented",
            ));
        }
        let kind = self.rope("rope_type");
        if kind.is_some_and(|k| k != "default") {
            return Err(wrong("rope_parameters", kind, "rope_type default"));
        }
        let share = self.rope("partial_rotary_factor");
        if share.is_some_and(|share| share.as_f64() != Some(1.0)) {
            return Err(wrong("partial_rotary_factor", share, "1"));
        }
        let layers = self.told("layer_types");
        let full =
            |layers: &Value| layers.as_array().is_some_and(|l| l.iter().all(|l| l == "full_attention"));
        if layers.is_some_and(|layers| !full(layers)) {
            return Err(wrong("layer_types", layers, "full_attention throughout"));
        }
        let act = self.told("hidden_act");
        if act.is_some_and(|a| a != "silu") { Err(wrong("hidden_act", act, "silu")) } else { Ok(()) }
    }
}

fn wrong(key: &'static str, got: Option<&Value>, expected: &'static str) -> ConfigError {
    ConfigError::Key { key, got: got.map_or_else(|| "missing".into(), Value::to_string), expected }
}
