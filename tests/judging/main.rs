//! `score` and `evaluate` as a person runs them, with a judge whose verdicts are known: it has learnt them by heart.

mod expected;
mod thinking;

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::OnceLock;

use patarm::tokenizer::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

const TASK: &str = "[[criteria]]\nname = \"Fit\"\ntext = \"it fits\"\n[layout]\nuser = \"{conversation}\\n{response}\"\n\
                    turn = \"{content}\"\npair = \"{conversation}\\n{first}\\n{second}\"\n";
const PAIRS: &str = "{\"id\":\"sum\",\"prompt\":\"2+2?\",\"chosen\":\"4\",\"rejected\":\"5\"}\n\
                     {\"id\":\"colour\",\"prompt\":\"colour?\",\"chosen\":\"red\",\"rejected\":\"cake\"}\n";
/// Prompts and the scores that the judge gives there. Of the colours it prefers the one that stands first; of the size it is
/// not sure.
const LEARNT: [(&str, &str); 11] = [
    ("2+2?\n4\n5", "7, 4"),
    ("2+2?\n5\n4", "4, 7"),
    ("colour?\nred\ncake", "6.5, 3"),
    ("colour?\ncake\nred", "6.5, 3"),
    ("2+2?\n4", "8"),
    ("2+2?\n5", "2.5"),
    ("colour?\nred", "3"),
    ("colour?\ncake", "3"),
    ("size?\nbig", "9"),
    ("size?\nbig", "2"),
    ("size?\nbig", "9"),
];

fn patarm(arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("patarm").expect("the program is built");
    command.args(arguments).args(["--threads", "1"]).output().expect("the program runs")
}

/// Standard output of a run that ended well, as JSON lines, and standard error.
fn said(arguments: &[&str]) -> (Vec<Value>, String) {
    let output = patarm(arguments);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {talk}");
    (lines(&String::from_utf8(output.stdout).expect("UTF-8")), talk)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

/// A run that must end with this exit code and name this on standard error.
fn refused(code: i32, hint: &str, arguments: &[&str]) {
    let output = patarm(arguments);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {talk}");
    assert!(talk.contains(hint) && !talk.contains("panicked"), "{arguments:?} says: {talk}");
}

struct Home(TempDir);

impl Home {
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a plain path").to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.0.path().join(name), text).expect("the folder is writable");
        self.path(name)
    }

    /// The judge's common arguments, then `more`.
    fn run<'a>(&self, command: &'a str, more: &[&'a str]) -> (Vec<Value>, String) {
        let [model, tasks, pairs] = ["judge/model", "tasks", "pairs.jsonl"].map(|name| self.path(name));
        let input = if command == "score" { "--in" } else { "--data" };
        said(&[&[command, "--model", &model, "--rubrics", &tasks, input, &pairs], more].concat())
    }
}

fn shape(vocabulary: usize) -> String {
    let shape = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": vocabulary, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "max_position_embeddings": 1024,
    });
    shape.to_string()
}

fn verdict(scores: &str) -> String {
    format!("<rubric>a: b (1)</rubric><eval>a: c</eval><score>{scores}</score>")
}

/// A folder with fresh weights, tasks and pairs.
fn untaught(tokenizer: &Tokenizer) -> Home {
    let home = Home(TempDir::new().expect("a temporary folder"));
    let source = home.path("source");
    fs::create_dir(&source).and_then(|()| fs::create_dir(home.path("tasks"))).expect("new folders");
    tokenizer.save(Path::new(&source)).expect("the folder is writable");
    home.file("source/config.json", &shape(tokenizer.vocab_size()));
    home.file("tasks/chat.toml", TASK);
    home.file("pairs.jsonl", PAIRS);
    patarm(&["init", "--config", &source, "--seed", "7", &home.path("fresh")]);
    home
}

/// The same with a judge that `patarm sft` taught.
fn teach(tokenizer: &Tokenizer) -> Home {
    let home = untaught(tokenizer);
    let row = |(prompt, scores): (&str, &str)| {
        let turn = |role: &str, content: &str| json!([{ "role": role, "content": content }]);
        json!({ "prompt": turn("user", prompt), "completion": turn("assistant", &verdict(scores)) })
    };
    let rows: Vec<String> = LEARNT.map(|learnt| row(learnt).to_string()).into();
    let rows = home.file("rows.jsonl", &rows.join("\n"));
    let [fresh, judge] = ["fresh", "judge"].map(|name| home.path(name));
    let how = ["--sft.steps", "300", "--sft.rows", "11", "--sft.optimizer.lr", "0.01"];
    let taught = patarm(&[&["sft", "--model", &fresh, "--data", &rows, "--out", &judge], &how[..]].concat());
    assert!(taught.status.success(), "{}", String::from_utf8_lossy(&taught.stderr));
    home
}

/// One judge for all tests.
fn home() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| teach(&patarm::demo::tokenizer().expect("the demo's tokenizer")))
}

fn column<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().map(|line| &line[name]).collect()
}

#[test]
fn one_response_at_a_time_gets_one_score() {
    let (lines, _) = home().run("score", &[]);
    assert_eq!(column(&lines, "score"), [8.0, 2.5, 3.0, 3.0]);
    assert_eq!(column(&lines, "side"), ["chosen", "rejected", "chosen", "rejected"]);
    let (found, _) = home().run("evaluate", &["--temperature", "0"]);
    let overall = &found[0]["overall"];
    assert_eq!((&overall["accuracy"]["value"], &overall["tie_rate"]), (&json!(0.75), &json!(0.5)));
    assert!(overall.get("flip_rate").is_none());
}

#[test]
fn two_responses_side_by_side_are_judged_in_both_orders() {
    let (lines, _) = home().run("score", &["--mode", "pairwise"]);
    assert_eq!(column(&lines, "order"), ["chosen_first", "rejected_first", "chosen_first", "rejected_first"]);
    assert_eq!(column(&lines, "chosen"), [7.0, 7.0, 6.5, 3.0]);
    assert_eq!(column(&lines, "rejected"), [4.0, 4.0, 3.0, 6.5]);
    assert_eq!(column(&lines, "winner"), ["chosen", "chosen", "neither", "neither"]);
    assert_eq!(lines[1]["text"], json!(verdict("4, 7")));
}

#[test]
fn evaluation_in_both_orders_tells_flips_ties_and_the_first_places_share() {
    let home = home();
    let out = home.path("records.jsonl");
    let more = ["--mode", "pairwise", "--temperature", "0", "--out", &out];
    let (found, talk) = home.run("evaluate", &more);
    let overall = &found[0]["overall"];
    assert_eq!(overall["judgements"], json!(16), "two pairs, two orders, four judgements");
    assert_eq!((&overall["flip_rate"], &overall["first_share"]), (&json!(0.5), &json!(0.75)));
    assert_eq!((&overall["accuracy"]["value"], &overall["tie_rate"]), (&json!(0.75), &json!(0.5)));
    assert!(talk.contains("flips") && talk.contains("first wins"), "{talk}");
    let records = lines(&fs::read_to_string(&out).expect("--out was written"));
    assert_eq!(column(&records, "id"), ["sum", "colour"]);
    assert_eq!(column(&records, "standing"), ["win", "tie"]);
    assert_eq!(records[1]["orders"], json!(["win", "loss"]));
    assert_eq!((&records[1]["chosen"], &records[0]["chosen"]), (&json!(4.75), &json!(7.0)));
    let judgements = records[0]["judgements"].as_array().expect("a list");
    assert_eq!(judgements.len(), 8);
    assert_eq!(judgements[4]["scores"], json!([4.0, 7.0]));
    assert_eq!(judgements[4]["shown"], json!("rejected_first"));
}

/// The most frequent of some scores; of several their mean.
fn majority(scores: &[f64]) -> f64 {
    let count = |score: &f64| scores.iter().filter(|other| *other == score).count();
    let most = scores.iter().map(count).max().expect("some scores");
    let mut modes: Vec<f64> = scores.iter().copied().filter(|score| count(score) == most).collect();
    modes.sort_by(f64::total_cmp);
    modes.dedup();
    modes.iter().sum::<f64>() / modes.len() as f64
}

#[test]
fn several_judgements_are_voted_on_by_mean_or_majority() {
    let home = home();
    let [model, tasks] = ["judge/model", "tasks"].map(|name| home.path(name));
    let unsure = home.file("unsure.jsonl", "{\"prompt\":\"size?\",\"response\":\"big\"}\n");
    let voted = |vote: &str| {
        let how = ["--judgements", "32", "--temperature", "1", "--vote", vote];
        said(&[&["score", "--model", &model, "--rubrics", &tasks, "--in", &unsure], &how[..]].concat()).0
    };
    let (mean, most) = (voted("mean"), voted("majority"));
    assert_eq!((mean.len(), most.len()), (32, 32));
    assert_eq!(column(&mean, "text"), column(&most, "text"), "the vote changes no draw");
    let scores: Vec<f64> = mean.iter().filter_map(|line| line["score"].as_f64()).collect();
    let by_hand = scores.iter().sum::<f64>() / scores.len() as f64;
    for (mean, most) in mean.iter().zip(&most) {
        assert!((mean["voted"].as_f64().expect("some verdicts") - by_hand).abs() < 1e-12, "{mean}");
        assert_eq!(most["voted"], json!(majority(&scores)));
        assert_eq!(most["mean"], mean["mean"]);
    }
    assert_ne!(mean[0]["voted"], most[0]["voted"], "judgements differ enough for the vote to matter");
}

#[test]
fn judging_flags_that_do_not_fit_are_refused_in_words() {
    let home = home();
    let [model, tasks, pairs] = ["judge/model", "tasks", "pairs.jsonl"].map(|name| home.path(name));
    let score = |input: &str, code, hint: &str, more: &[&str]| {
        let start = ["score", "--model", &model, "--rubrics", &tasks, "--in", input];
        refused(code, hint, &[&start[..], more].concat());
    };
    let responses = home.file("responses.jsonl", "{\"prompt\":\"2+2?\",\"response\":\"4\"}\n");
    score(&responses, 3, "rows need `chosen` and `rejected`", &["--mode", "pairwise"]);
    score(&pairs, 2, "pointwise", &["--mode", "sideways"]);
    score(&pairs, 2, "majority", &["--vote", "loudest"]);
    score(&pairs, 2, "--judgements", &["--judgements", "0"]);
    score(&pairs, 2, "greedy judgements are all the same", &["--judgements", "3"]);
    score(&home.path("absent.jsonl"), 3, "absent.jsonl", &["--mode", "pairwise"]);
    score(
        &home.file("cut.jsonl", "{\"prompt\":\"a\",\"chosen\":"),
        3,
        "cut.jsonl:1",
        &["--mode", "pairwise"],
    );
    let file =
        home.file("run.toml", "[evaluation]\nmode = \"pairwise\"\n[rl]\nbaseline = \"bradley-terry\"\n");
    refused(2, "evaluation.mode", &["train", "--config", &file, "--out", &home.path("run")]);
    let nowhere = home.path("no/such/folder/records.jsonl");
    refused(
        8,
        "records.jsonl",
        &["evaluate", "--model", &model, "--rubrics", &tasks, "--data", &pairs, "--out", &nowhere],
    );
}
