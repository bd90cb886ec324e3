//! Rows 24 and 25: supervised fine-tuning that is stopped or killed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Ended, Home, model};
use crate::small_run::checkpoints;

const ROWS: &str = "{\"prompt\": \"one and one is\", \"completion\": \" two\"}\n\
                    {\"prompt\": \"red or\", \"completion\": \" blue\"}\n\
                    {\"prompt\": \"good\", \"completion\": \" day to all of you\"}\n";

fn sft(home: &Home, out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("patarm"));
    command.args(["sft", "--model", model(), "--data", &home.file("rows.jsonl", ROWS), "--out", out]);
    command.args([
        "--sft.steps",
        "200",
        "--sft.rows",
        "2",
        "--checkpoint.every",
        "5",
        "--rl.leaf_tokens",
        "64",
    ]);
    command.args(["--threads", "1"]).args(more);
    command
}

/// What is taught in one go: weights, and the steps that standard output told of.
fn whole(home: &Home) -> (Vec<u8>, Vec<String>) {
    let out = home.path("whole");
    let ended = Ended::of(&sft(home, &out, &[]).output().unwrap());
    ended.well();
    assert!(ended.talk.contains("memory: "), "{}", ended.talk);
    (weights(&out), ended.out.lines().map(str::to_owned).collect())
}

fn weights(out: &str) -> Vec<u8> {
    fs::read(Path::new(out).join("model/model.safetensors")).unwrap()
}

fn begun(home: &Home, out: &str) -> Child {
    let child = sft(home, out, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while checkpoints(Path::new(out)).len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// The rest of a run: its steps, and the weights that it ends with are those of an unbroken one.
fn goes_on(home: &Home, out: &str) {
    let (expected, steps) = whole(home);
    let ended = Ended::of(&sft(home, out, &["--resume"]).output().unwrap());
    ended.well();
    assert_eq!(weights(out), expected);
    let rest: Vec<&str> = ended.out.lines().collect();
    assert!(
        !rest.is_empty() && steps.ends_with(&rest.iter().map(|&s| s.to_owned()).collect::<Vec<_>>()),
        "{rest:?}"
    );
    let rows = fs::read_to_string(Path::new(out).join("metrics.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 200, "no step is lost or stands twice");
}

#[test]
fn row_24_supervised_fine_tuning_saves_on_sigterm_and_goes_on_to_the_same_bits() {
    let home = Home::new();
    let out = home.path("stopped");
    let mut child = begun(&home, &out);
    assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    goes_on(&home, &out);
}

#[test]
fn row_25_supervised_fine_tuning_that_is_killed_goes_on_to_the_same_bits() {
    let home = Home::new();
    let out = home.path("killed");
    let mut child = begun(&home, &out);
    child.kill().unwrap();
    child.wait().unwrap();
    goes_on(&home, &out);
}
