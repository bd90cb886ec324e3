//! A whole run, small: what it leaves behind, and that nothing but its settings decides its weights.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const STEPS: [&str; 22] = [
    "--sft.steps",
    "6",
    "--sft.rows",
    "8",
    "--rl.steps",
    "6",
    "--rl.pairs",
    "3",
    "--rollout.samples",
    "3",
    "--rollout.max_new_tokens",
    "16",
    "--rl.leaf_tokens",
    "512",
    "--checkpoint.every",
    "2",
    "--evaluation.every",
    "3",
    "--evaluation.validation_pairs",
    "8",
    "--evaluation.held_out_pairs",
    "8",
];

fn train(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("patarm"));
    command.arg("train").arg("--out").arg(out).args(STEPS).args(more);
    command.stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn finish(mut command: Command) -> Value {
    let output = command.output().expect("the binary runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    serde_json::from_str(text.lines().last().expect("a last line")).expect("the last line is one JSON object")
}

fn weights(out: &Path) -> Vec<u8> {
    let newest = checkpoints(out).pop().expect("a checkpoint");
    std::fs::read(newest.join("model.safetensors")).expect("weights")
}

fn checkpoints(out: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(out.join("checkpoints")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        folder.map(|entry| entry.path()).filter(|path| path.join("complete.json").exists()).collect();
    found.sort();
    found
}

fn kill_after_step(mut child: Child, out: &Path, step: &str) {
    let began = Instant::now();
    while !checkpoints(out).iter().any(|path| path.ends_with(step)) {
        assert!(began.elapsed() < Duration::from_secs(300), "no checkpoint {step}");
        assert!(child.try_wait().expect("a child").is_none(), "it ended before {step}");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("it is gone");
}

#[test]
fn a_run_killed_and_resumed_ends_with_the_bits_of_an_unbroken_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let unbroken = finish(train(&whole, &[]));
    for step in ["step-00000004", "step-00000008"] {
        let resume: &[&str] = if step.ends_with('4') { &[] } else { &["--resume"] };
        kill_after_step(train(&broken, resume).spawn().expect("it starts"), &broken, step);
    }
    let resumed = finish(train(&broken, &["--resume"]));
    assert_eq!(weights(&whole), weights(&broken));
    for same in ["before", "after", "curve", "best_step", "tokens_drawn"] {
        assert_eq!(unbroken[same], resumed[same], "{same}");
    }
    let steps = |out: &Path| -> Vec<u64> {
        let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
        text.lines()
            .map(|l| serde_json::from_str::<Value>(l).expect("JSON")["step"].as_u64().expect("a step"))
            .collect()
    };
    assert_eq!(steps(&broken), (1..=12).collect::<Vec<_>>(), "no step is lost or doubled");
}

#[test]
fn weights_depend_on_neither_threads_nor_the_micro_batch_split() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        finish(train(&out, more));
        weights(&out)
    };
    let one = run("one", &["--threads", "1"]);
    assert_eq!(one, run("three", &["--threads", "3", "--rl.leaves", "3"]));
    assert_eq!(one, run("recomputed", &["--threads", "2", "--rl.keep", "inputs"]));
    assert_ne!(one, run("other", &["--seed", "2"]), "the seed decides");
}

#[test]
fn a_run_leaves_everything_that_people_look_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let result = finish(train(&out, &[]));
    for file in
        ["config.toml", "provenance.json", "metrics.jsonl", "samples.jsonl", "result.json", "report.html"]
    {
        assert!(out.join(file).is_file(), "{file}");
    }
    for file in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"] {
        assert!(out.join("model").join(file).is_file(), "model/{file}");
    }
    assert!(std::fs::read_dir(out.join("tensorboard")).expect("events").next().is_some());
    for key in ["before", "after", "baselines", "tokens_per_second", "reading_share_right", "data_hash"] {
        assert!(!result[key].is_null(), "{key}");
    }
    let again = train(&out, &[]).output().expect("it runs");
    assert_eq!(again.status.code(), Some(2), "a run folder is not overwritten");
    let other = train(&out, &["--resume", "--rl.optimizer.lr", "0.5"]).output().expect("it runs");
    assert_eq!(other.status.code(), Some(2), "nor resumed with another configuration");
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("rl.optimizer.lr: ")
            && String::from_utf8_lossy(&other.stderr).contains("-> 0.5")
    );
}

#[test]
fn bradley_terry_baseline_learns_from_the_same_pairs_and_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let kind = ["--baseline", "bradley-terry"];
    let whole = folder.path().join("whole");
    let result = finish(train(&whole, &kind));
    assert_eq!(result["baseline"], "bradley-terry");
    assert_eq!(result["after"]["overall"]["pairs"], 8);
    assert_eq!(result["after"]["overall"]["judgements"], 0, "it writes nothing");
    assert!(result["after"]["overall"]["accuracy"]["value"].is_f64());
    let rows = std::fs::read_to_string(whole.join("metrics.jsonl")).expect("metrics");
    let last: Value = serde_json::from_str(rows.lines().last().expect("a row")).expect("JSON");
    assert_eq!(last["phase"], "bradley_terry");
    assert!(last["grad_norm"].as_f64().is_some_and(|norm| norm > 0.0), "{last}");
    patarm::report::RunReport::load(&whole).expect("its page can be made again, whatever it did not measure");

    let newest = checkpoints(&whole).pop().expect("a checkpoint");
    std::fs::remove_dir_all(newest).expect("removed");
    let expected = weights(&whole);
    let again = finish(train(&whole, &[&kind[..], &["--resume"]].concat()));
    assert_eq!(again["after"], result["after"]);
    assert_ne!(weights(&whole), expected, "the run went on");
}
