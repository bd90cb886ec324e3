//! What each fuzz target does with some bytes: any error is right, a panic, a hang or a broken promise is not.
#![allow(dead_code)] // each target uses one of them

use std::fs;
use std::sync::OnceLock;

use patarm::checkpoint::{ModelFolder, Scan};
use patarm::device::{Device, DeviceChoice};
use patarm::preference::{self, ReadOptions};
use patarm::qwen3::{Config, Model};
use patarm::rubric::{Ending, PairVerdict, Spacing, Verdict, format_verdict};
use patarm::tensor::{Arena, DType};
use patarm::tokenizer::{ChatTemplate, TokenizerFiles};
use patarm::trainer::TrainConfig;

/// A model of one layer and a few hundred weights.
const SHAPE: &str = r#"{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 8, "hidden_size": 4,
    "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 4,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true, "max_position_embeddings": 16}"#;

/// The bytes as `model.safetensors`; after a first byte `i` as the index and, beyond a NUL, the one shard `a.safetensors`.
pub(crate) fn model_folder(bytes: &[u8]) {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let device = DEVICE.get_or_init(|| Device::open(DeviceChoice::Cpu, 1).expect("a CPU"));
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("room");
    put("config.json", SHAPE.as_bytes());
    match bytes.split_first() {
        Some((b'i', rest)) => {
            let cut = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            put("model.safetensors.index.json", &rest[..cut]);
            put("a.safetensors", rest.get(cut + 1..).unwrap_or_default());
        }
        _ => put("model.safetensors", bytes),
    }
    let Ok(opened) = ModelFolder::open(folder.path()) else { return };
    let mut arena = Arena::new("model", device, 1 << 16);
    let config = Config::parse(SHAPE).expect("the shape is sound");
    let mut model = Model::new(config, DType::F32, 16, &mut arena).expect("it fits");
    if model.read(&opened, Scan::Finite).is_ok() {
        let finite =
            |tensor: &patarm::tensor::Tensor| tensor.view().host::<f32>().iter().all(|x| x.is_finite());
        assert!(model.params.iter().all(|(_, tensor)| finite(tensor)), "what was scanned is finite");
    }
}

/// The bytes after the first as a file of rows, of the kind that the first one names.
pub(crate) fn pairs(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let extension = ["jsonl", "json", "parquet", "jsonl.gz", "jsonl.zst"][usize::from(*kind) % 5];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(format!("rows.{extension}"));
    fs::write(&path, rest).expect("room");
    let options = ReadOptions { skip_bad: usize::MAX, max_cell_bytes: 1 << 16, ..ReadOptions::default() };
    let Ok(dataset) = preference::read(&path, &options) else { return };
    let rows: usize = dataset.files.iter().map(|file| file.rows).sum();
    assert_eq!(
        rows,
        dataset.pairs.len() + dataset.duplicates + dataset.rejects.len(),
        "every row is counted once"
    );
    for pair in &dataset.pairs {
        assert_ne!(pair.chosen, pair.rejected, "{}", pair.id);
        assert!(!pair.messages.is_empty(), "{}", pair.id);
    }
}

/// The text as a chat template, over a short conversation.
pub(crate) fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut files = TokenizerFiles::default();
    files.insert("chat_template.jinja", text);
    let Ok(Some(template)) = ChatTemplate::from_files(&files) else { return };
    let turns =
        serde_json::json!([{"role": "system", "content": "s"}, {"role": "user", "content": "u <|im_end|>"}]);
    let context =
        serde_json::json!({ "messages": turns, "add_generation_prompt": true, "enable_thinking": false });
    let first = template.render(&context);
    assert_eq!(first.ok(), template.render(&context).ok(), "the same twice");
}

/// The text as a judgement: what is read can be written and read again.
pub(crate) fn verdict(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for ending in [Ending::Stopped, Ending::CutOff] {
        drop(PairVerdict::parse(&text, ending));
        let Ok(verdict) = Verdict::parse(&text, ending) else { continue };
        assert!((1.0..=10.0).contains(&verdict.score.value()));
        for spacing in [Spacing::Compact, Spacing::Spread] {
            let written = format_verdict(&verdict, spacing).expect("what was read can be written");
            assert_eq!(Verdict::parse(&written, Ending::Stopped), Ok(verdict.clone()));
        }
    }
}

/// The text as settings of a run: sound ones are written and read as the same.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = toml::from_str::<TrainConfig>(text) else { return };
    let config = config.resolved();
    if config.check().is_ok() {
        let written = toml::to_string(&config).expect("settings can be written");
        assert_eq!(toml::from_str(&written), Ok(config), "{written}");
    }
}
