//! Readers of preference pairs: forms of rows, formats of files, faults, the split.

#![allow(clippy::unwrap_used, reason = "what a helper cannot do fails its test")]

mod faults;
mod pairs;
mod parquet;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use patarm::preference::{Dataset, PreferenceError, ReadOptions, read};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder that holds one file.
fn folder(name: &str, bytes: impl AsRef<[u8]>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    dir
}

fn read_text(text: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Dataset, PreferenceError> {
    read(folder("rows.jsonl", text).path(), options)
}

fn user(content: &str) -> Value {
    json!({ "role": "user", "content": content })
}

fn assistant(content: &str) -> Value {
    json!({ "role": "assistant", "content": content })
}

fn gzip(path: &Path, text: &str) {
    let mut encoder = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
}
