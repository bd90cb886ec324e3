//! Configurations of every dense size, and folders out and in.

use std::path::Path;

use patarm::checkpoint::{LocalDisk, ModelFolder, Save, Scan};
use patarm::qwen3::{Config, Family, Model, ParamId};
use patarm::tensor::DType;

use super::golden::{Golden, MODELS, arena, stream};

#[test]
fn every_published_size_has_its_number_of_weights() {
    // Parameters as the model cards give them (0.6B, 1.7B: with the tied head counted once), in units of 10^6.
    let sizes = [("0.6b", 596), ("1.7b", 1721), ("4b", 4022), ("8b", 8191), ("14b", 14768), ("32b", 32762)];
    for (size, millions) in sizes {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("qwen3-{size}"));
        let text = std::fs::read_to_string(folder.join("config.json")).expect("kept in the tree");
        let source = std::fs::read_to_string(folder.join("SOURCE.toml")).expect("kept in the tree");
        let config = Config::parse(&text).expect("a dense Qwen3");
        assert_eq!((config.parameters() + 500_000) / 1_000_000, millions, "{size}");
        assert!(
            source.contains(&digest(text.as_bytes())),
            "{size}: config.json is the one that SOURCE.toml names"
        );
    }
}

#[test]
fn what_an_older_configuration_leaves_out_means_what_transformers_takes_it_for() {
    let text = r#"{"model_type": "llama", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 3, "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "rope_scaling": null}"#;
    let config = Config::parse(text).expect("a Llama");
    assert_eq!(config.family, Family::Llama);
    assert_eq!((config.head_dim, config.kv_heads, config.tied), (8, 3, false));
    assert_eq!(config.rope_theta, 10_000.0);
    let saved = Config::parse(&config.to_json(DType::F32)).expect("what was written");
    assert_eq!(saved, config);
}

#[test]
fn what_a_family_has_beyond_this_engine_is_refused_by_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smollm2-135m/config.json");
    let text = std::fs::read_to_string(folder).expect("kept in the tree");
    let sound: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let config = Config::parse(&text).expect("a Llama");
    assert_eq!((config.parameters() + 500_000) / 1_000_000, 135);
    let refused = |key: &str, value: serde_json::Value| {
        let mut changed = sound.clone();
        changed[key] = value;
        Config::parse(&changed.to_string()).expect_err("an extension").to_string()
    };
    let yes = || serde_json::Value::Bool(true);
    for key in ["attention_bias", "mlp_bias", "rope_interleaved", "use_sliding_window"] {
        assert!(refused(key, yes()).contains(key));
    }
    let scaled = serde_json::json!({"rope_type": "llama3", "factor": 8.0});
    assert!(refused("rope_scaling", scaled.clone()).contains("rope_scaling"));
    assert!(refused("rope_parameters", scaled).contains("rope_parameters"));
    assert!(refused("layer_types", serde_json::json!(["sliding_attention"])).contains("layer_types"));
    assert!(refused("model_type", "gemma".into()).contains("qwen3, qwen2 or llama"));
    assert!(
        refused("architectures", serde_json::json!(["LlamaForSequenceClassification"]))
            .contains("architectures")
    );
    assert!(refused("num_attention_heads", 7.into()).contains("head_dim"));
}

/// The blake3 hash that SOURCE.toml gives beside the publisher's sha256.
fn digest(bytes: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes);
    hasher.finalize().to_hex().to_string()
}

#[test]
fn a_saved_model_reads_back_with_the_same_bits_and_configuration() {
    for name in MODELS {
        let (stream, golden) = (stream(), Golden::open(name));
        let mut arena = arena(&stream);
        let model = golden.model(DType::F32, &mut arena);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("saved");
        let config = serde_json::from_str(&model.config.to_json(DType::F32)).expect("JSON");
        let named = model.params.named();
        Save { shard_bytes: 10_000, ..Save::new(&config, &named) }.write(&LocalDisk, &target).expect("saved");
        let saved = ModelFolder::open(&target).expect("sound");
        let config = Config::of(&saved).expect("a dense Qwen3");
        assert_eq!(config, model.config, "{name}");
        let mut again = Model::new(config, DType::F32, 8, &mut arena).expect("fits");
        again.read(&saved, Scan::Finite).expect("every weight");
        for (id, tensor) in model.params.iter() {
            assert_eq!(
                again.params.get(id).host_bytes(),
                tensor.view().host_bytes(),
                "{name}: {}",
                id.name()
            );
        }
    }
}

#[test]
fn a_folder_that_does_not_fit_its_configuration_is_refused_before_anything_is_read() {
    let golden = Golden::open(MODELS[0]);
    let folder = golden.folder();
    let saved = ModelFolder::open(folder.path()).expect("sound");
    let sound = Config::of(&saved).expect("a dense Qwen3");
    sound.check_folder(&saved).expect("it fits");
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut other = sound.clone();
        change(&mut other);
        other.check_folder(&saved).expect_err("it does not fit").to_string()
    };
    assert!(refused(&|c| c.layers += 1).contains("model.layers.2."));
    assert!(refused(&|c| c.layers -= 1).contains("no place"));
    assert!(refused(&|c| c.tied = false).contains(&ParamId::Head.name()));
    assert!(refused(&|c| c.vocabulary += 1).contains("model.embed_tokens.weight"));
    assert!(refused(&|c| c.head_dim += 2).contains("self_attn"));
}

#[test]
fn a_folder_that_transformers_saved_has_the_golden_configuration_and_bits() {
    let (stream, golden) = (stream(), Golden::open("qwen3_tied_full"));
    let mut arena = arena(&stream);
    let model = golden.model(DType::F32, &mut arena);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/saved_by_transformers");
    let folder = ModelFolder::open(path).expect("sound shards and index");
    assert_eq!(folder.end_tokens(), [1, 5]);
    let config = Config::of(&folder).expect("a dense Qwen3, rotary settings in an object of their own");
    assert_eq!(Config { other: Default::default(), ..config.clone() }, {
        Config { other: Default::default(), ..model.config.clone() }
    });
    let mut saved = Model::new(config, DType::F32, 8, &mut arena).expect("fits");
    saved.read(&folder, Scan::Finite).expect("every weight");
    for (id, tensor) in model.params.iter() {
        assert_eq!(saved.params.get(id).host_bytes(), tensor.view().host_bytes(), "{}", id.name());
    }
}
