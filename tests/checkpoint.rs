//! Checkpoints: what is refused before a byte is allocated, what a save leaves whatever fails, and that bits survive.

#[path = "checkpoint/crashes.rs"]
mod crashes;
#[path = "checkpoint/folders.rs"]
mod folders;
#[path = "checkpoint/headers.rs"]
mod headers;
#[path = "checkpoint/history.rs"]
mod history;
#[path = "checkpoint/saves.rs"]
mod saves;

use std::fs;
use std::path::Path;

use patarm::checkpoint::{CheckpointError, Fault, ModelFolder, Named};
use patarm::dims;
use patarm::tensor::{DType, Dims, Tensor};
use serde_json::{Value, json};

/// The bytes of a safetensors file with this header, valid or not.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A folder with a config.json and these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("config.json"), b"{\"model_type\": \"qwen3\", \"eos_token_id\": 7}")
        .expect("written");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("written");
    }
    folder
}

/// Why opening a folder whose only weights are `bytes` fails.
fn refused(bytes: &[u8]) -> CheckpointError {
    let folder = folder(&[("model.safetensors", bytes)]);
    ModelFolder::open(folder.path()).expect_err("a malformed file is refused")
}

/// The tensor and the fault of an error about one.
fn fault(error: CheckpointError) -> (String, Fault) {
    match error {
        CheckpointError::Tensor { tensor, fault, .. } => (tensor, fault),
        other => panic!("expected a fault of one tensor, got: {other}"),
    }
}

/// A matrix [V=5, C=3] and a gain [C=3] whose bits are all different.
fn weights() -> Vec<(String, Tensor)> {
    let matrix: Vec<f32> = (0u16..15).map(|i| f32::from(i).sin() * 1e-3).collect();
    let gain = [1.5f32, -0.0, 3.0e-42];
    vec![
        ("embed".into(), Tensor::from_slice(&matrix, dims![V: 5, C: 3])),
        ("norm".into(), Tensor::from_slice(&gain, dims![C: 3])),
    ]
}

fn named(tensors: &[(String, Tensor)]) -> Vec<Named<'_>> {
    tensors.iter().map(|(name, tensor)| Named { name: name.clone(), tensor: tensor.view() }).collect()
}

fn config() -> Value {
    json!({ "model_type": "qwen3", "torch_dtype": "bfloat16", "eos_token_id": [7, 3] })
}

/// What a folder holds under `name`, read as `dtype`.
fn read(folder: &Path, name: &str, dtype: DType, dims: Dims) -> Vec<f64> {
    let mut out = Tensor::zeros(dtype, dims);
    let folder = ModelFolder::open(folder).expect("a sound folder");
    folder.read(name, out.view_mut(), patarm::checkpoint::Scan::Finite).expect("a sound tensor");
    out.view().to_f64()
}
