//! Rows 9 to 11: models, tokenizers and templates that cannot be used.

use std::fs;

use super::program::{Home, patarm};

#[test]
fn row_09_a_cut_file_is_refused_by_the_name_of_the_tensor_that_it_cuts() {
    let home = Home::new();
    let folder = home.model("cut");
    let weights = folder.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let tokens = home.file("tokens.jsonl", "{\"tokens\":[1,2]}\n");
    patarm(&["logprobs", "--model", folder.to_str().unwrap(), "--in", &tokens])
        .refused(4, &["model.safetensors", "tensor `model.norm.weight`", "cut off"]);
}
