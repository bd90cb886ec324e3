//! Adapters in peft's layout: adapter_config.json and adapter_model.safetensors.

use serde_json::{Map, Value, json};

use super::{LowRank, Model, ParamId};
use crate::checkpoint::{CheckpointError, Expected, ModelFolder, Scan};

/// Keys of adapter_config.json that say nothing about what is computed.
const SILENT: [&str; 14] = [
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "inference_mode",
    "layers_pattern",
    "lora_dropout", // only while peft trains
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "loftq_config",
    "eva_config",
];

impl LowRank {
    /// The settings of an adapter's folder. What peft can do beyond plain LoRA is refused by name where it is switched on, and
    /// so are switches that this program does not know.
    ///
    /// # Errors
    /// When a key is missing or is not what this engine computes.
    pub fn of(folder: &ModelFolder) -> Result<Self, CheckpointError> {
        let refuse =
            |reason| CheckpointError::Malformed { path: folder.path().join("adapter_config.json"), reason };
        let nothing = Map::new();
        let keys = folder.config_json().as_object().unwrap_or(&nothing);
        let wrong = |key: &str, expected: &str| {
            let got = keys.get(key).map_or_else(|| "missing".into(), Value::to_string);
            refuse(format!("`{key}` is {got}, this engine needs {expected}"))
        };
        if keys.get("peft_type").is_none_or(|kind| kind != "LORA") {
            return Err(wrong("peft_type", "\"LORA\""));
        }
        if let Some((key, _)) = keys.iter().find(|(key, value)| !is_plain(key, value)) {
            return Err(wrong(key, "it switched off"));
        }
        let rank = keys.get("r").and_then(Value::as_u64).ok_or_else(|| wrong("r", "a whole number"))?;
        let alpha = keys.get("lora_alpha").and_then(Value::as_f64);
        let alpha = alpha.ok_or_else(|| wrong("lora_alpha", "a number"))?;
        let targets =
            targets(keys).ok_or_else(|| wrong("target_modules", "a list of names, or \"all-linear\""))?;
        Self::new(rank as usize, alpha, &targets).map_err(|e| refuse(e.to_string()))
    }

    /// adapter_config.json of these settings beside a base of this name.
    pub fn to_peft(&self, base: Option<&str>) -> Value {
        let whole = self.alpha().fract() == 0.0 && self.alpha() < 1e15;
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": self.rank(),
            "lora_alpha": if whole { json!(self.alpha() as u64) } else { json!(self.alpha()) },
            "target_modules": self.targets(),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "modules_to_save": null,
            "inference_mode": true,
        })
    }
}

/// Whether a key leaves plain LoRA as it is.
fn is_plain(key: &str, value: &Value) -> bool {
    match key {
        "peft_type" | "r" | "lora_alpha" | "target_modules" => true,
        "bias" => value == "none",
        "init_lora_weights" => value.is_boolean() || value == "gaussian",
        key if SILENT.contains(&key) => true,
        _ => match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(all) => all.is_empty(),
            Value::Object(all) => all.is_empty(),
            _ => false,
        },
    }
}

fn targets(keys: &Map<String, Value>) -> Option<Vec<String>> {
    match keys.get("target_modules")? {
        Value::String(all) if all == "all-linear" => Some(vec!["all".into()]),
        Value::Array(names) => names.iter().map(|name| Some(name.as_str()?.to_owned())).collect(),
        _ => None,
    }
}

impl Model {
    /// Reads every factor of an adapter's folder, converted to this model's dtype.
    ///
    /// # Errors
    /// When a factor is missing, unexpected or of another shape than this base calls for, or holds what `scan` refuses.
    pub fn read_adapter(&mut self, folder: &ModelFolder, scan: Scan) -> Result<(), CheckpointError> {
        let Some(factors) = &mut self.adapter else { return Ok(()) };
        let expected = |(id, _): (ParamId, _)| Expected { name: id.name(), dims: id.dims(&self.config) };
        folder.check(&factors.iter().map(expected).collect::<Vec<_>>(), None)?;
        for (id, tensor) in factors.iter_mut() {
            folder.read(&id.name(), tensor.view_mut(), scan)?;
        }
        Ok(())
    }
}
