//! The program as a person runs it: what goes in, what comes out, and how it says no.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

mod cli {
    mod profiling;
}

fn patarm(arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("patarm").expect("the program is built");
    command.args(arguments).args(["--threads", "1"]).output().expect("the program runs")
}

/// Standard output of a run that ended well.
fn said(arguments: &[&str]) -> String {
    let output = patarm(arguments);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {talk}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn lines(text: &str) -> Vec<Value> {
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

/// A folder with a tiny configuration and the demo's tokenizer.
struct Tiny {
    home: TempDir,
}

impl Tiny {
    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().expect("a plain path").to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.home.path().join(name), text).expect("the folder is writable");
        self.path(name)
    }
}

fn shape(vocabulary: usize) -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": vocabulary, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "max_position_embeddings": 1024,
    })
}

/// One model for all tests: made once by `patarm init`.
fn tiny() -> &'static Tiny {
    static TINY: OnceLock<Tiny> = OnceLock::new();
    TINY.get_or_init(|| {
        let tiny = Tiny { home: TempDir::new().expect("a temporary folder") };
        let source = PathBuf::from(tiny.path("source"));
        fs::create_dir(&source).expect("a new folder");
        let tokenizer = patarm::demo::tokenizer().expect("the demo's tokenizer");
        tokenizer.save(&source).expect("the folder is writable");
        fs::write(source.join("config.json"), shape(tokenizer.vocab_size()).to_string()).expect("writable");
        said(&["init", "--config", &tiny.path("source"), "--seed", "7", &tiny.path("model")]);
        tiny
    })
}

#[test]
fn fresh_weights_depend_on_the_seed_alone() {
    let tiny = tiny();
    let bytes = |name: &str, seed: &str| {
        let (from, to) = (tiny.path("source"), tiny.path(name));
        said(&["init", "--config", &from, "--seed", seed, &to]);
        fs::read(Path::new(&to).join("model.safetensors")).expect("init writes it")
    };
    let (first, again, other) = (bytes("a", "7"), bytes("b", "7"), bytes("c", "8"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(Path::new(&tiny.path("a")).join("tokenizer.json").exists());
}

#[test]
fn log_probabilities_begin_with_null_and_do_not_depend_on_neighbours() {
    let tiny = tiny();
    let model = tiny.path("model");
    let rows = "{\"tokens\":[5,9,12,300,7]}\n\n{\"tokens\":[8]}\n{\"text\":\"hello there\"}\n\
                {\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n";
    let all = lines(&said(&["logprobs", "--model", &model, "--in", &tiny.file("rows.jsonl", rows)]));
    let alone = tiny.file("alone.jsonl", "{\"tokens\":[5,9,12,300,7]}\n");
    let alone = lines(&said(&["logprobs", "--model", &model, "--in", &alone]));
    assert_eq!(all.len(), 4);
    assert_eq!(all[0], alone[0]);
    for line in &all {
        let (tokens, logprobs) = (line["tokens"].as_array().unwrap(), line["logprobs"].as_array().unwrap());
        assert_eq!(tokens.len(), logprobs.len());
        assert!(logprobs[0].is_null());
        assert!(logprobs[1..].iter().all(|l| l.as_f64().is_some_and(|l| l < 0.0)), "{line}");
    }
    assert_eq!(all[1]["logprobs"], json!([null]));
}

#[test]
fn drawn_tokens_depend_on_the_seed_and_the_prompt() {
    let tiny = tiny();
    let draw = |seed: &str| {
        let (model, prompt) = (tiny.path("model"), "a word");
        let how = ["--temperature", "1.0", "--max-new-tokens", "6", "--seed", seed];
        said(&[&["generate", "--model", &model, "--prompt", prompt], &how[..]].concat())
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
    let line = &lines(&draw("1"))[0];
    assert!(line["tokens"].as_array().is_some_and(|tokens| !tokens.is_empty() && tokens.len() <= 6));
}

#[test]
fn an_untrained_judge_fails_in_words_and_never_in_numbers() {
    let tiny = tiny();
    let rows = "{\"id\":\"x\",\"task\":\"math\",\"prompt\":\"2+2?\",\"response\":\"4\"}\n\
                {\"prompt\":\"2+2?\",\"response\":\"5\"}\n";
    let input = tiny.file("responses.jsonl", rows);
    let model = tiny.path("model");
    let judged = lines(&said(&["score", "--model", &model, "--in", &input, "--max-new-tokens", "4"]));
    assert_eq!(judged.len(), 2);
    assert_eq!((&judged[0]["id"], &judged[1]["id"]), (&json!("x"), &json!(2)));
    for line in judged {
        assert!(line["score"].is_null() && line["failure"].is_string(), "{line}");
    }
    let pairs = "{\"prompt\":\"2+2?\",\"chosen\":\"4\",\"rejected\":\"5\"}\n";
    let pairs = tiny.file("pairs.jsonl", pairs);
    let judged = lines(&said(&["score", "--model", &model, "--in", &pairs, "--max-new-tokens", "4"]));
    let sides: Vec<&Value> = judged.iter().map(|line| &line["side"]).collect();
    assert_eq!(sides, ["chosen", "rejected"]);
}

#[test]
fn a_single_pair_can_be_evaluated() {
    let tiny = tiny();
    let pair = "{\"task\":\"math\",\"prompt\":\"2+2?\",\"chosen\":\"4\",\"rejected\":\"5\"}\n";
    let data = tiny.file("pair.jsonl", pair);
    let arguments = ["evaluate", "--model", &tiny.path("model"), "--data", &data];
    let found = &lines(&said(&[&arguments[..], &["--rollout.max_new_tokens", "4"]].concat()))[0];
    assert_eq!(found["overall"]["pairs"], json!(1));
    assert_eq!(found["overall"]["failure_rate"], json!(1.0));
    assert_eq!(found["tasks"]["math"]["pairs"], json!(1));
}

#[test]
fn supervised_steps_lower_the_loss_and_leave_a_model() {
    let tiny = tiny();
    let rows = tiny.file("sft.jsonl", "{\"prompt\":\"good\",\"completion\":\" day\"}\n");
    let out = tiny.path("taught");
    let arguments = ["sft", "--model", &tiny.path("model"), "--data", &rows, "--out", &out];
    let steps = lines(&said(&[&arguments[..], &["--sft.steps", "8", "--sft.rows", "2"]].concat()));
    assert_eq!(steps.len(), 8);
    assert!(steps[7]["loss"].as_f64() < steps[0]["loss"].as_f64(), "{steps:?}");
    let alone = tiny.file("taught.jsonl", "{\"tokens\":[1,2]}\n");
    assert_eq!(lines(&said(&["logprobs", "--model", &format!("{out}/model"), "--in", &alone])).len(), 1);
}

#[test]
fn every_command_explains_itself_with_an_example() {
    for command in ["sft", "evaluate", "score", "generate", "logprobs", "init", "plan", "report"] {
        let mut program = assert_cmd::Command::cargo_bin("patarm").expect("the program is built");
        let output = program.args([command, "--help"]).output().expect("the program runs");
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(help.contains(&format!("Example:  patarm {command}")), "{command}: {help}");
    }
}

#[test]
fn settings_are_merged_and_printed() {
    let tiny = tiny();
    let file = tiny.file("run.toml", "[rl]\nsteps = 3\npairs = 5\n");
    let arguments = ["train", "--config", &file, "--rl.steps", "9", "--seed", "4", "--print-config"];
    let printed: toml::Table = said(&arguments).parse().expect("TOML");
    assert_eq!(printed["seed"].as_integer(), Some(4));
    assert_eq!(printed["rl"]["steps"].as_integer(), Some(9));
    assert_eq!(printed["rl"]["pairs"].as_integer(), Some(5));
    refused(2, "steeps", &["train", "--rl.steeps", "9", "--print-config"]);
}

#[test]
fn bad_usage_bad_rows_bad_models_and_absent_devices_have_their_own_exit_codes() {
    let tiny = tiny();
    let model = tiny.path("model");
    let good = tiny.file("good.jsonl", "{\"tokens\":[1,2]}\n");
    let logprobs = |model: &str, input: &str, code, hint: &str| {
        refused(code, hint, &["logprobs", "--model", model, "--in", input]);
    };
    logprobs(&model, &tiny.file("bad.jsonl", "{\"tokens\":[1]}\nnot json\n"), 3, "bad.jsonl:2");
    logprobs(&model, &tiny.file("id.jsonl", "{\"tokens\":[99999]}\n"), 3, "id.jsonl:1: token 99999");
    logprobs(&model, &tiny.file("none.jsonl", "{}\n"), 3, "none.jsonl:1: expected exactly one");
    logprobs(&model, &tiny.path("absent.jsonl"), 3, "absent.jsonl");
    logprobs(&tiny.path("absent"), &good, 4, "not a model folder");
    assert_eq!(said(&["logprobs", "--model", &model, "--in", &tiny.file("empty.jsonl", "")]), "");
    refused(5, "--device cuda:99", &["logprobs", "--model", &model, "--in", &good, "--device", "cuda:99"]);
    refused(2, "exists already", &["init", "--config", &tiny.path("source"), &model]);
    refused(4, "cannot read it", &["init", "--config", &tiny.path("absent"), &tiny.path("new")]);
    refused(2, "--temperature", &["score", "--model", &model, "--in", &good, "--samples", "2"]);
    refused(3, "good.jsonl:1", &["score", "--model", &model, "--in", &good]);
    refused(
        3,
        "no_such_task",
        &[
            "score",
            "--model",
            &model,
            "--in",
            &tiny.file("task.jsonl", "{\"task\":\"no_such_task\",\"prompt\":\"a\",\"response\":\"b\"}\n"),
        ],
    );
}

#[test]
fn a_model_without_tokenizer_reads_tokens_only() {
    let tiny = tiny();
    let config = tiny.file("bare.json", &shape(64).to_string());
    let folder = tiny.path("bare_model");
    let empty = tiny.path("empty");
    fs::create_dir(&empty).expect("a new folder");
    fs::rename(&config, Path::new(&empty).join("config.json")).expect("a file moves");
    said(&["init", "--config", &empty, &folder]);
    let tokens = tiny.file("tokens.jsonl", "{\"tokens\":[1,2]}\n");
    assert_eq!(lines(&said(&["logprobs", "--model", &folder, "--in", &tokens])).len(), 1);
    let text = tiny.file("text.jsonl", "{\"text\":\"a b\"}\n");
    refused(4, "tokenizer.json", &["logprobs", "--model", &folder, "--in", &text]);
    refused(4, "tokenizer.json", &["generate", "--model", &folder, "--prompt", "a"]);
}

#[test]
fn a_plan_adds_up_without_reading_weights() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/qwen3-0.6b");
    let model = models.to_str().expect("a plain path");
    let plan = &lines(&said(&["plan", "--model", model, "--dtype", "bf16"]))[0];
    assert_eq!(plan["parameters"], json!(596_049_920));
    let [sampling, training] = ["sampling", "training"].map(|phase| plan["memory"][phase].as_u64().unwrap());
    assert_eq!(plan["memory"]["phase"].as_u64(), Some(sampling.max(training)));
    assert!(plan["memory"]["model"].as_u64().unwrap() > 596_049_920 * 14);
}
