use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::CheckpointError;
use crate::tensor::DType;

/// Files of a Hugging Face folder that travel with the weights byte for byte.
const COMPANIONS: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

/// The most that a companion or a JSON file beside the weights may hold: Qwen3's tokenizer.json has 11 MB.
const MOST: u64 = 256 << 20;

/// A file that is carried beside the weights as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// Plain file name.
    pub name: String,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// Reads a whole small file; a missing one is `None`.
pub(super) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(CheckpointError::io(path, "open it")(e)),
    };
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(CheckpointError::io(path, "read it"))?;
    if bytes.len() as u64 > MOST {
        return Err(CheckpointError::malformed(path, format!("larger than {MOST} bytes")));
    }
    Ok(Some(bytes))
}

/// Reads a JSON file; a missing one is `None`.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    let Some(bytes) = read_small(path)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|e| CheckpointError::malformed(path, format!("not the JSON it should be: {e}")))
}

/// The companions that stand in `folder`.
pub(super) fn companions(folder: &Path) -> Result<Vec<Companion>, CheckpointError> {
    let mut found = Vec::new();
    for name in COMPANIONS {
        if let Some(bytes) = read_small(&folder.join(name))? {
            found.push(Companion { name: name.into(), bytes });
        }
    }
    Ok(found)
}

/// End-of-sequence ids: of generation_config.json, else of config.json; a number or a list.
pub(super) fn end_tokens(generation: Option<&Value>, config: &Value) -> Vec<u32> {
    let ids = |value: &Value| -> Vec<u32> {
        let one = std::slice::from_ref(value);
        let list = value.as_array().map_or(one, Vec::as_slice);
        list.iter().filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
    };
    let from = |file: &Value| file.get("eos_token_id").map(ids).filter(|ids| !ids.is_empty());
    generation.and_then(from).or_else(|| from(config)).unwrap_or_default()
}

/// `config.json` as it must stand beside weights stored as `dtype`.
pub(super) fn with_dtype(config: &Value, dtype: DType) -> Value {
    let name = match dtype {
        DType::F64 => "float64",
        DType::F32 | DType::U32 | DType::U8 => "float32",
        DType::BF16 => "bfloat16",
    };
    let mut config = config.clone();
    if let Some(object) = config.as_object_mut() {
        let key = if object.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        object.insert(key.into(), name.into());
    }
    config
}
