//! Low-rank adapters as a person uses them: trained, resumed, read by every command, merged, refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

fn patarm(arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("patarm").expect("the program is built");
    let threads: &[&str] = if arguments[0] == "ckpt" { &[] } else { &["--threads", "1"] };
    command.args(arguments).args(threads).output().expect("the program runs")
}

/// Standard output of a run that ended well, line by line.
fn said(arguments: &[&str]) -> Vec<Value> {
    let output = patarm(arguments);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {talk}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

/// A run that must end with this exit code and name this on standard error.
fn refused(code: i32, hint: &str, arguments: &[&str]) {
    let output = patarm(arguments);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {talk}");
    assert!(talk.contains(hint), "{arguments:?} says: {talk}");
    assert!(!talk.contains("panicked"), "{talk}");
}

/// A base, an adapter that was trained on it, and rows to read.
struct Home(TempDir);

impl Home {
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a plain path").to_owned()
    }

    /// A fresh base of this width.
    fn base(&self, name: &str, hidden: usize, seed: &str) -> String {
        let source = PathBuf::from(self.path(&format!("{name}-source")));
        fs::create_dir(&source).expect("a new folder");
        let tokenizer = patarm::demo::tokenizer().expect("the demo's tokenizer");
        tokenizer.save(&source).expect("the folder is writable");
        let shape = json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": tokenizer.vocab_size(),
            "hidden_size": hidden, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "tie_word_embeddings": true, "max_position_embeddings": 2048, "initializer_range": 0.1,
        });
        fs::write(source.join("config.json"), shape.to_string()).expect("writable");
        said(&["init", "--config", source.to_str().expect("plain"), "--seed", seed, &self.path(name)]);
        self.path(name)
    }
}

const SFT: [&str; 8] =
    ["--sft.steps", "4", "--sft.rows", "2", "--sft.optimizer.lr", "0.02", "--rl.leaf_tokens", "64"];

fn home() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = Home(TempDir::new().expect("a temporary folder"));
        let base = home.base("base", 16, "7");
        let rows = "{\"prompt\": \"One and one is\", \"completion\": \" two.\"}\n{\"prompt\": \"Red or\", \"completion\": \" blue?\"}\n";
        fs::write(home.path("rows.jsonl"), rows).expect("writable");
        fs::write(home.path("texts.jsonl"), "{\"text\": \"One and one is two.\"}\n{\"text\": \"Red\"}\n").expect("writable");
        let (rows, taught) = (home.path("rows.jsonl"), home.path("taught"));
        let start = ["sft", "--model", &base, "--data", &rows, "--out", &taught, "--lora", "3,5,all"];
        said(&[&start[..], &SFT].concat());
        home
    })
}

fn logprobs(more: &[&str]) -> Vec<f64> {
    let texts = home().path("texts.jsonl");
    let lines = said(&[&["logprobs", "--in", &texts][..], more].concat());
    lines
        .iter()
        .flat_map(|line| line["logprobs"].as_array().expect("numbers"))
        .filter_map(Value::as_f64)
        .collect()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn the_first_step_of_an_adapter_has_the_loss_of_the_base_to_the_bit() {
    let home = home();
    let (base, rows) = (home.path("base"), home.path("rows.jsonl"));
    let run = |out: &str, more: &[&str]| {
        let out = home.path(out);
        said(&[&["sft", "--model", &base, "--data", &rows, "--out", &out][..], more, &SFT].concat())
    };
    let (whole, low) = (run("first-whole", &[]), run("first-low", &["--lora", "3,5,all"]));
    assert_eq!(whole[0], low[0]);
    assert_ne!(whole[1], low[1], "other weights learn");
    assert!(low[3]["loss"].as_f64() < low[0]["loss"].as_f64(), "{low:?}");
}

#[test]
fn an_adapters_folder_is_what_peft_reads() {
    let adapter = PathBuf::from(home().path("taught/adapter"));
    let text = fs::read_to_string(adapter.join("adapter_config.json")).expect("peft's settings");
    let settings: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(settings["peft_type"], "LORA");
    assert_eq!((&settings["r"], &settings["lora_alpha"]), (&json!(3), &json!(5)));
    assert_eq!(settings["base_model_name_or_path"], json!(home().path("base")));
    let bytes = fs::read(adapter.join("adapter_model.safetensors")).expect("factors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a sound file");
    assert_eq!(tensors.len(), 2 * 2 * 7);
    let b = tensors
        .tensor("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight")
        .expect("by peft's name");
    assert_eq!(b.shape(), [16, 3]);
    assert!(!adapter.join("model.safetensors").exists(), "the base is not written again");
}

#[test]
fn a_merged_folder_says_what_base_and_adapter_say() {
    let home = home();
    let (base, adapter, merged) = (home.path("base"), home.path("taught/adapter"), home.path("merged"));
    said(&["merge", "--model", &base, "--adapter", &adapter, "--out", &merged]);
    let alone = logprobs(&["--model", &base]);
    let with = logprobs(&["--model", &base, "--adapter", &adapter]);
    let after = logprobs(&["--model", &merged]);
    assert!(apart(&with, &after) <= 1e-5, "{}", apart(&with, &after));
    assert!(apart(&with, &alone) > 1e-2, "the adapter matters: {}", apart(&with, &alone));
}

#[test]
fn training_goes_on_with_a_given_adapter() {
    let home = home();
    let (base, adapter, merged) =
        (home.path("base"), home.path("taught/adapter"), home.path("merged-to-go-on"));
    said(&["merge", "--model", &base, "--adapter", &adapter, "--out", &merged]);
    let (rows, out) = (home.path("rows.jsonl"), home.path("further"));
    let sft = |out: &str, model: &[&str]| {
        said(&[&["sft", "--data", &rows, "--out", out][..], model, &SFT].concat())
    };
    let further = sft(&out, &["--model", &base, "--adapter", &adapter]);
    let whole = sft(&home.path("further-whole"), &["--model", &merged]);
    let loss = |lines: &[Value]| lines[0]["loss"].as_f64().expect("a loss");
    assert!((loss(&further) - loss(&whole)).abs() <= 1e-5, "{} {}", loss(&further), loss(&whole));
    let out = home.path("further/adapter");
    let settings =
        |folder: &str| fs::read(Path::new(folder).join("adapter_config.json")).expect("peft's settings");
    assert_eq!(settings(&out), settings(&adapter));
    let factors =
        |folder: &str| fs::read(Path::new(folder).join("adapter_model.safetensors")).expect("factors");
    assert_ne!(factors(&out), factors(&adapter), "they learned");
}

#[test]
fn commands_that_read_a_model_read_its_adapter() {
    let home = home();
    let (base, adapter) = (home.path("base"), home.path("taught/adapter"));
    let model = ["--model", &base, "--adapter", &adapter, "--rollout.max_new_tokens", "4"];
    let answers = home.path("answers.jsonl");
    fs::write(&answers, "{\"prompt\": \"One and one?\", \"response\": \"Two.\"}\n").expect("writable");
    let judged = said(&[&["score", "--in", &answers][..], &model].concat());
    assert!(judged[0]["text"].is_string());
    let long = ["--rollout.max_new_tokens", "60"];
    let drawn = |more: &[&str]| said(&[&["generate", "--prompt", "Red or"][..], more, &long].concat());
    assert_ne!(drawn(&model[..4]), drawn(&model[..2]));
    let small = ["--evaluation.held_out_pairs", "2", "--evaluation.judgements", "1"];
    let evaluated = said(&[&["evaluate"][..], &model, &small].concat());
    assert_eq!(evaluated.len(), 1);
}

const TRAIN: [&str; 20] = [
    "--data.demo_pairs",
    "64",
    "--rl.steps",
    "6",
    "--rl.pairs",
    "2",
    "--rollout.samples",
    "3",
    "--rollout.max_new_tokens",
    "6",
    "--rl.loss.kl",
    "0.05",
    "--checkpoint.every",
    "2",
    "--evaluation.every",
    "100",
    "--evaluation.validation_pairs",
    "2",
    "--evaluation.held_out_pairs",
    "2",
];

fn newest(run: &Path) -> PathBuf {
    let folders = fs::read_dir(run.join("checkpoints")).expect("checkpoints");
    let mut found: Vec<PathBuf> = folders.flatten().map(|entry| entry.path()).collect();
    found.sort();
    found.pop().expect("one at least")
}

#[test]
fn a_run_that_trains_an_adapter_resumes_bit_for_bit_on_its_own_base_only() {
    let home = home();
    let (base, run) = (home.base("mutable", 16, "8"), home.path("run"));
    let start = ["train", "--model", &base, "--out", &run, "--lora", "2,4,q_proj,v_proj,down_proj"];
    let train = [&start[..], &TRAIN].concat();
    let result = said(&train);
    assert!(result[0]["after"].is_object());
    let run = Path::new(&run);
    assert!(run.join("adapter/adapter_model.safetensors").exists() && !run.join("model").exists());
    let rows = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).expect("JSON")).collect();
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| row["on_policy_gap"] == 0.0), "sampling and training agree to the bit");
    assert_eq!(rows[0]["kl"], 0.0, "the reference is the policy as it began");

    let last = newest(run);
    let bytes = |name: &str| fs::read(last.join(name)).expect("a checkpoint's file");
    let (factors, state) = (bytes("adapter_model.safetensors"), bytes("state.safetensors"));
    assert!(!last.join("model.safetensors").exists(), "the base is not in the checkpoint");
    assert!(said(&["ckpt", "verify", last.to_str().expect("plain")])[0]["sound"] == true);
    fs::remove_dir_all(&last).expect("removed");
    let resume = [&train[..], &["--resume"]].concat();
    said(&resume);
    assert!(bytes("adapter_model.safetensors") == factors && bytes("state.safetensors") == state);

    fs::remove_dir_all(&last).expect("removed");
    let other = home.base("other", 16, "9");
    fs::copy(Path::new(&other).join("model.safetensors"), Path::new(&base).join("model.safetensors"))
        .expect("copied");
    refused(2, "base: ", &resume);
}

#[test]
fn a_bradley_terry_baseline_trains_an_adapter_too() {
    let home = home();
    let (base, run) = (home.path("base"), home.path("compared"));
    let kind = ["--baseline", "bradley-terry", "--lora", "2,4,all", "--rl.optimizer.lr", "0.01"];
    let start = ["train", "--model", &base, "--out", &run];
    said(&[&start[..], &TRAIN, &kind].concat());
    let bytes = fs::read(Path::new(&run).join("adapter/adapter_model.safetensors")).expect("factors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a sound file");
    let b = tensors.iter().filter(|(name, _)| name.contains("lora_B"));
    assert!(
        b.into_iter().all(|(_, factor)| factor.data().iter().any(|byte| *byte != 0)),
        "all of them learned"
    );
}

#[test]
fn a_plan_counts_what_learns_and_no_second_base() {
    let base = home().path("base");
    let plan = |more: &[&str]| said(&[&["plan", "--model", &base][..], more].concat()).remove(0);
    let memory = |plan: &Value| plan["memory"]["model"].as_u64().expect("bytes");
    let (whole, low) = (plan(&[]), plan(&["--lora", "2,4,q_proj"]));
    assert_eq!(whole["learning"], whole["parameters"]);
    assert_eq!(low["learning"], 2 * (2 * 16 + 16 * 2));
    assert!(memory(&low) * 2 < memory(&whole), "{low} {whole}");
    let kl = plan(&["--lora", "2,4,q_proj", "--rl.loss.kl", "0.1"]);
    assert!(memory(&kl) - memory(&low) < 4096, "the reference is a twin of the factors");
}

#[test]
fn what_cannot_be_an_adapter_is_refused() {
    let home = home();
    let (base, adapter) = (home.path("base"), home.path("taught/adapter"));
    let (rows, texts) = (home.path("rows.jsonl"), home.path("texts.jsonl"));
    let sft = |lora: &str| {
        vec![
            "sft".to_owned(),
            "--model".into(),
            base.clone(),
            "--data".into(),
            rows.clone(),
            "--out".into(),
            home.path("never"),
            "--lora".into(),
            lora.into(),
        ]
    };
    for (lora, hint) in [
        ("0,8,all", "rank 0"),
        ("4,0,all", "alpha 0"),
        ("4,8,lm_head", "`lm_head`"),
        ("4,8", "no target"),
        ("4", "RANK,ALPHA,TARGETS"),
    ] {
        let arguments = sft(lora);
        refused(2, hint, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    refused(2, "model.path", &["train", "--lora", "4,8,all", "--out", &home.path("never")]);
    refused(
        2,
        "another rank",
        &["train", "--model", &base, "--adapter", &adapter, "--lora", "4,8,all", "--out", &home.path("no")],
    );
    let wider = home.base("wider", 32, "7");
    let hint = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    refused(4, hint, &["logprobs", "--model", &wider, "--adapter", &adapter, "--in", &texts]);
    refused(4, "this folder is an adapter", &["logprobs", "--model", &adapter, "--in", &texts]);
    refused(4, "not an adapter", &["logprobs", "--model", &base, "--adapter", &base, "--in", &texts]);
    refused(2, "--adapter is missing", &["merge", "--model", &base, "--out", &home.path("never")]);
}
