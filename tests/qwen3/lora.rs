//! Low-rank adapters: against peft with autograd (f32), the equations in float64, finite differences, and peft's own folders.

use std::path::{Path, PathBuf};

use patarm::checkpoint::{CheckpointError, Fault, Layout, LocalDisk, ModelFolder, Save, Scan};
use patarm::qwen3::{Keep, LowRank, Model, ParamId};
use patarm::tensor::{Arena, DType};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::golden::{Golden, apart, arena, stream};
use super::pass::{Outputs, leaves, through};

const CASES: [&str; 2] = ["qwen3_tied_grouped", "qwen2_untied_full"];

/// A folder that peft itself saved.
fn saved_by_peft(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/saved_by_peft").join(name)
}

fn opened(folder: &Path) -> ModelFolder {
    ModelFolder::open_as(folder, Layout::Adapter).expect("an adapter's folder")
}

/// The golden model with peft's adapter.
fn adapted(name: &str, dtype: DType, arena: &mut Arena) -> (Golden, Model) {
    let (golden, folder) = (Golden::open(name), opened(&saved_by_peft(name)));
    let low = LowRank::of(&folder).expect("plain LoRA");
    let mut model = golden.model_with(Some(low), dtype, arena);
    model.read_adapter(&folder, Scan::Finite).expect("every factor");
    (golden, model)
}

fn run(name: &str, dtype: DType, keep: Keep) -> Outputs {
    let mut arena = arena(&stream());
    let (golden, model) = adapted(name, dtype, &mut arena);
    through(&golden, &model, keep, &leaves(&golden, usize::MAX))
}

/// Compares everything with the recorded values of `precision`; gives the worst difference and its name.
fn worst(name: &str, dtype: DType, precision: &str) -> (f64, String) {
    let (recorded, ours) = (Golden::open(&format!("lora_{name}")), run(name, dtype, Keep::All));
    let low = recorded.settings("lora");
    let factors = 2 * low["targets"].as_array().expect("names").len();
    assert_eq!(ours.gradients.len() % factors, 0, "{name}: the factors learn");
    assert!(ours.gradients.keys().all(|id| id.contains(".lora_")), "{name}: and nothing else does");
    let per_token = ours.per_token.iter().map(|(what, values)| ((*what).to_owned(), values));
    let gradients = ours.gradients.iter().map(|(id, values)| (format!("grad.{id}"), values));
    let mut worst = (0.0, String::new());
    for (what, values) in per_token.chain(gradients) {
        let difference = apart(values, &recorded.values(&format!("{precision}.{what}")));
        assert!(difference.is_finite(), "{name}: {what} is not finite");
        if difference > worst.0 {
            worst = (difference, what);
        }
    }
    worst
}

#[test]
fn in_f32_logits_and_the_gradients_of_both_factors_agree_with_peft() {
    for name in CASES {
        let (difference, what) = worst(name, DType::F32, "f32");
        assert!(difference <= 1e-5, "{name}: {what} differs by {difference:e} of its largest value");
    }
}

#[test]
fn in_f64_logits_and_the_gradients_of_both_factors_agree_with_the_equations() {
    for name in CASES {
        let (difference, what) = worst(name, DType::F64, "f64");
        assert!(difference <= 1e-12, "{name}: {what} differs by {difference:e} of its largest value");
    }
}

#[test]
fn gradients_of_both_factors_agree_with_finite_differences() {
    let mut arena = arena(&stream());
    let (golden, mut model) = adapted(CASES[1], DType::F64, &mut arena);
    let (leaves, weights) = (leaves(&golden, usize::MAX), golden.values("token_weights"));
    let loss = |model: &Model| -> f64 {
        let ours = through(&golden, model, Keep::All, &leaves);
        ours.per_token["logprob"].iter().zip(&weights).map(|(logprob, w)| w * logprob).sum()
    };
    let gradients = through(&golden, &model, Keep::All, &leaves).gradients;
    let ids: Vec<ParamId> = model.learns().iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), gradients.len());
    for id in ids {
        let gradient = &gradients[&id.name()];
        for place in [0, gradient.len() * 3 / 5] {
            let mut at = |step: f64| {
                model.learns_mut().get_mut(id).host_mut::<f64>()[place] += step;
                loss(&model)
            };
            let (up, down) = (at(1e-5), at(-2e-5));
            at(1e-5);
            let measured = (up - down) / 2e-5;
            let apart = (measured - gradient[place]).abs();
            assert!(apart < 1e-6 * gradient[place].abs().max(1.0), "{id:?}: {measured} {}", gradient[place]);
        }
    }
}

#[test]
fn a_fresh_adapter_leaves_the_bases_bits() {
    let golden = Golden::open(CASES[0]);
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let (stream, mut arena) = (stream(), arena(&stream()));
        let low = LowRank::new(5, 7.0, &["all"]).expect("sound");
        let mut model = golden.model_with(Some(low), dtype, &mut arena);
        model.initialise_adapter(&stream, 3).expect("host");
        let factors: Vec<_> = model.learns().iter().map(|(id, t)| (id.name(), t.view().to_f64())).collect();
        for (name, values) in &factors {
            assert_eq!(name.contains("lora_B"), values.iter().all(|x| *x == 0.0), "{name}");
        }
        let all = leaves(&golden, usize::MAX);
        let with = through(&golden, &model, Keep::All, &all);
        model.adapter = None;
        let without = through(&golden, &model, Keep::All, &all);
        assert!(with.per_token == without.per_token, "{dtype:?}");
        assert!(with.gradients.iter().any(|(id, g)| id.contains("lora_B") && g.iter().any(|x| *x != 0.0)));
    }
}

#[test]
fn recomputing_a_layer_with_an_adapter_gives_the_bits_of_keeping_it() {
    for dtype in [DType::F32, DType::BF16] {
        let (kept, recomputed) = (run(CASES[0], dtype, Keep::All), run(CASES[0], dtype, Keep::Inputs));
        assert!(
            kept.gradients == recomputed.gradients && kept.per_token == recomputed.per_token,
            "{dtype:?}"
        );
    }
}

#[test]
fn a_merged_model_is_the_base_with_its_adapter_and_what_peft_merges() {
    for name in CASES {
        let mut arena = arena(&stream());
        let (golden, mut model) = adapted(name, DType::F32, &mut arena);
        let recorded = Golden::open(&format!("lora_{name}"));
        let before = model.params.get(ParamId::all(&model.config).nth(2).expect("q")).to_f64();
        model.merge(&stream()).expect("host");
        assert!(model.adapter.is_none() && model.config.adapter.is_none());
        let low = recorded.settings("lora");
        let mut merged = 0;
        for (id, tensor) in model.params.iter() {
            let targeted = low["targets"]
                .as_array()
                .expect("names")
                .iter()
                .any(|t| id.name().contains(t.as_str().expect("a name")) && !id.name().contains("bias"));
            if targeted {
                let difference =
                    apart(&tensor.view().to_f64(), &recorded.values(&format!("merged.{}", id.name())));
                assert!(
                    difference <= 2.0 * f64::from(f32::EPSILON),
                    "{}: differs by {difference:e}",
                    id.name()
                );
                merged += 1;
            }
        }
        assert_eq!(merged, model.config.layers * low["targets"].as_array().expect("names").len());
        assert_ne!(before, model.params.get(ParamId::all(&model.config).nth(2).expect("q")).to_f64());
        let ours = through(&golden, &model, Keep::All, &leaves(&golden, usize::MAX));
        let difference = apart(&ours.per_token["logits"], &recorded.values("f32.logits"));
        assert!(difference <= 1e-5, "{name}: logits differ by {difference:e}");
    }
}

#[test]
fn a_saved_adapter_has_the_tensors_of_pefts_own_file_and_reads_back() {
    let mut arena = arena(&stream());
    let (golden, model) = adapted(CASES[0], DType::F32, &mut arena);
    let low = model.config.adapter.clone().expect("an adapter");
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().join("adapter");
    let (config, factors) = (low.to_peft(Some("base")), model.learns().named());
    let save = Save { layout: Layout::Adapter, ..Save::new(&config, &factors) };
    save.write(&LocalDisk, &path).expect("written");
    assert_eq!(Layout::of(&path), Layout::Adapter);
    let bytes = |folder: &Path| std::fs::read(folder.join("adapter_model.safetensors")).expect("factors");
    let (ours, pefts) = (bytes(&path), bytes(&saved_by_peft(CASES[0])));
    let tensors = [&ours, &pefts].map(|file| SafeTensors::deserialize(file).expect("a sound file"));
    assert_eq!(tensors[0].len(), tensors[1].len());
    for (name, theirs) in tensors[1].iter() {
        assert_eq!(tensors[0].tensor(name).expect("by peft's name"), theirs, "{name}");
    }
    let again = opened(&path);
    assert_eq!(LowRank::of(&again).expect("its own settings"), low);
    let mut reread = golden.model_with(Some(low), DType::F32, &mut arena);
    reread.read_adapter(&again, Scan::Finite).expect("every factor");
    for ((id, a), (_, b)) in model.learns().iter().zip(reread.learns().iter()) {
        assert_eq!(a.view().host_bytes(), b.view().host_bytes(), "{id:?}");
    }
}

/// peft's folder with other settings.
fn with_settings(change: impl FnOnce(&mut Value)) -> Result<LowRank, CheckpointError> {
    let (home, peft) = (tempfile::tempdir().expect("a folder"), saved_by_peft(CASES[0]));
    let text = std::fs::read_to_string(peft.join("adapter_config.json")).expect("settings");
    let mut settings: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut settings);
    std::fs::write(home.path().join("adapter_config.json"), settings.to_string()).expect("written");
    std::fs::copy(peft.join("adapter_model.safetensors"), home.path().join("adapter_model.safetensors"))
        .expect("copied");
    LowRank::of(&opened(home.path()))
}

#[test]
fn what_is_no_plain_lora_is_refused_by_its_key() {
    assert!(with_settings(|_| ()).is_ok());
    for (key, value) in [
        ("use_dora", json!(true)),
        ("use_rslora", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({ "q_proj": 4 })),
        ("layers_to_transform", json!([0])),
        ("init_lora_weights", json!("pissa")),
        ("peft_type", json!("IA3")),
        ("of_some_later_version", json!(true)),
        ("r", Value::Null),
        ("lora_alpha", Value::Null),
        ("target_modules", Value::Null),
        ("target_modules", json!(".*_proj")),
    ] {
        let error = with_settings(|settings| settings[key] = value.clone()).expect_err("refused").to_string();
        assert!(error.contains(&format!("`{key}`")) && error.contains("adapter_config.json"), "{error}");
    }
    let zero = with_settings(|settings| settings["r"] = json!(0)).expect_err("refused").to_string();
    assert!(zero.contains("rank 0"), "{zero}");
    let head = with_settings(|settings| settings["target_modules"] = json!(["lm_head"]));
    assert!(head.expect_err("refused").to_string().contains("`lm_head`"));
}

/// Why peft's adapter of the first case does not fit another base or other settings: the tensor and its fault.
fn misfit(base: &str, low: LowRank) -> (String, Fault) {
    let mut arena = arena(&stream());
    let mut model = Golden::open(base).model_with(Some(low), DType::F32, &mut arena);
    let read = model.read_adapter(&opened(&saved_by_peft(CASES[0])), Scan::Finite);
    match read.expect_err("it does not fit") {
        CheckpointError::Tensor { tensor, fault, .. } => (tensor, fault),
        other => panic!("expected a fault of one tensor, got: {other}"),
    }
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_by_tensor() {
    let low = |rank, targets: &[&str]| LowRank::new(rank, 5.0, targets).expect("sound");
    let first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let (tensor, fault) = misfit("qwen3_untied_full", low(3, &["all"]));
    assert!(tensor == first && matches!(fault, Fault::Shape { .. }), "another base: {tensor}: {fault}");
    let (tensor, fault) = misfit(CASES[0], low(4, &["all"]));
    assert!(tensor == first && matches!(fault, Fault::Shape { .. }), "another rank: {tensor}: {fault}");
    let (tensor, fault) = misfit(CASES[0], low(3, &["q_proj"]));
    assert_eq!(fault, Fault::Unexpected, "{tensor} has no place");
    let (tensor, fault) = misfit("llama_tied_grouped", low(3, &["all"]));
    assert!(matches!(fault, Fault::Shape { .. }), "{tensor}: {fault}");
}

#[test]
fn a_model_folder_that_is_an_adapter_says_so() {
    let error = ModelFolder::open(saved_by_peft(CASES[0])).expect_err("no model").to_string();
    assert!(error.contains("adapter"), "{error}");
    let golden = Golden::open(CASES[0]).folder();
    let error = ModelFolder::open_as(golden.path(), Layout::Adapter).expect_err("no adapter").to_string();
    assert!(error.contains("not an adapter"), "{error}");
}
