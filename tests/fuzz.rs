//! The fuzz targets over their seeds: a sound input, and what fuzzing ever found.

use std::path::Path;

#[path = "fuzz/inputs.rs"]
mod inputs;

/// Runs a target over its seeds, of which there must be some.
fn seeds(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let files: Vec<_> = std::fs::read_dir(folder).expect("seeds").map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    files.iter().for_each(|file| run(&std::fs::read(file).unwrap()));
}

#[test]
fn model_folders() {
    seeds("model_folder", inputs::model_folder);
}

#[test]
fn files_of_pairs() {
    seeds("pairs", inputs::pairs);
}

#[test]
fn chat_templates() {
    seeds("template", inputs::template);
}

#[test]
fn verdicts() {
    seeds("verdict", inputs::verdict);
}

#[test]
fn settings() {
    seeds("config", inputs::config);
}
