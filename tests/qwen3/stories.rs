//! stories260K, a pretrained Llama whose rotary pairs are neighbours, against a numpy forward pass.

use std::fs;
use std::path::{Path, PathBuf};

use patarm::dims;
use patarm::ops::attention::{Source, Span};
use patarm::ops::head;
use patarm::qwen3::{self, Activations, Keep, Packed};
use patarm::tensor::{DType, Tensor};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::golden::{apart, arena};
use super::pretrained::Pretrained;

const C: usize = 64;
const F: usize = 172;
const L: usize = 5;
const HEADS: usize = 8;
const KV_HEADS: usize = 4;
const D: usize = 8;
const V: usize = 512;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/tiny-weights").join(name)
}

/// The file's arrays in their order: (name, copies, rows, columns); a vector is one row.
const ARRAYS: [(&str, usize, [usize; 2]); 11] = [
    ("model.embed_tokens", 1, [V, C]),
    ("input_layernorm", L, [1, C]),
    ("self_attn.q_proj", L, [HEADS * D, C]),
    ("self_attn.k_proj", L, [KV_HEADS * D, C]),
    ("self_attn.v_proj", L, [KV_HEADS * D, C]),
    ("self_attn.o_proj", L, [C, HEADS * D]),
    ("post_attention_layernorm", L, [1, C]),
    ("mlp.gate_proj", L, [F, C]),
    ("mlp.down_proj", L, [C, F]),
    ("mlp.up_proj", L, [F, C]),
    ("model.norm", 1, [1, C]),
];

/// Rows of heads whose pairs are (0, 1), (2, 3), ... in the order 0, 2, ..., 1, 3, ..., whose pairs are a half apart.
fn half_split(bytes: &[u8], row: usize) -> Vec<u8> {
    let heads = bytes.chunks(D * row);
    let order = (0..D).step_by(2).chain((1..D).step_by(2));
    heads.flat_map(|head| order.clone().flat_map(move |r| head[r * row..][..row].to_vec())).collect()
}

/// The weights as a Hugging Face folder.
fn folder() -> tempfile::TempDir {
    let bytes = fs::read(data("stories260K.bin")).expect("the weights");
    let (header, mut rest) = bytes.split_at(28);
    let told: Vec<i32> =
        header.chunks(4).map(|b| i32::from_le_bytes(b.try_into().expect("4 bytes"))).collect();
    assert_eq!(told, [C, F, L, HEADS, KV_HEADS, V, 512].map(|n| n as i32));
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, copies, [rows, columns]) in ARRAYS {
        for layer in 0..copies {
            let (own, after) = rest.split_at(rows * columns * 4);
            rest = after;
            let rotated = name.ends_with("q_proj") || name.ends_with("k_proj");
            let own = if rotated { half_split(own, columns * 4) } else { own.to_vec() };
            let name = match copies {
                1 => format!("{name}.weight"),
                _ => format!("model.layers.{layer}.{name}.weight"),
            };
            tensors.push((name, if rows == 1 { vec![columns] } else { vec![rows, columns] }, own));
        }
    }
    assert_eq!(rest.len(), 2 * 512 * D / 2 * 4, "the rotary tables are all that is left");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": V, "hidden_size": C,
        "intermediate_size": F, "num_hidden_layers": L, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        "max_position_embeddings": 512,
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("shape and bytes agree"))
    });
    let weights = safetensors::serialize(views, None).expect("serialized");
    fs::write(folder.path().join("model.safetensors"), weights).expect("written");
    fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    folder
}

fn expected() -> Value {
    let text = fs::read_to_string(data("expected_greedy.json")).expect("the expected values");
    serde_json::from_str(&text).expect("JSON")
}

fn list<T: serde::de::DeserializeOwned>(key: &str) -> Vec<T> {
    serde_json::from_value(expected()[key].clone()).expect("a list")
}

#[test]
#[cfg_attr(not(shared_data), ignore = "needs ../shared/data")]
fn a_pretrained_llama_tells_its_story_256_of_256() {
    let weights = Pretrained::open(folder().path(), 512);
    let greedy = weights.greedy(&[vec![1]], &[], 256);
    let expected: Vec<u32> = list("greedy_ids");
    assert_eq!(expected.len(), 256);
    assert_eq!(greedy, [expected]);
}

#[test]
#[cfg_attr(not(shared_data), ignore = "needs ../shared/data")]
fn a_pretrained_llama_has_the_recorded_logits() {
    let Pretrained { stream, model } = Pretrained::open(folder().path(), 512);
    let tokens = [vec![1], list::<u32>("greedy_ids")[..63].to_vec()].concat();
    let n = tokens.len();
    let spans = vec![Span { queries: 0..n, start: 0, source: Source::Packed { parent: None } }];
    let batch = Packed { tokens, positions: (0..n as u32).collect(), spans, slots: Vec::new() };
    let mut arena = arena(&stream);
    let mut buffers =
        Activations::new(&model.config, DType::F32, Keep::Nothing, n, &mut arena).expect("fits");
    qwen3::forward(&stream, &model, &batch, &mut buffers, None).expect("fits");
    let mut logits = Tensor::zeros(DType::F32, dims![B: n, V: V]);
    let w = model.params.get(model.params.head_id());
    head::logits(&stream, buffers.hidden(n), w, 1.0, logits.view_mut()).expect("fits");
    for (row, key) in [(0, "logits_after_bos"), (63, "logits_at_pos_63")] {
        let difference = apart(&logits.rows(row..row + 1).to_f64(), &list::<f64>(key));
        assert!(difference <= 1e-5, "{key}: differs by {difference:e} of the largest");
    }
}
