//! Row 30: metrics and talk that cannot be written.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::{Ended, Home};
use crate::small_run::{Ear, Small, state, unbroken};

/// What may stand where a file was.
fn put(kind: &str, at: &Path) {
    if at.is_dir() {
        fs::remove_dir_all(at).unwrap()
    } else {
        fs::remove_file(at).unwrap()
    }
    match kind {
        "folder" => fs::create_dir(at).unwrap(),
        "file" => fs::write(at, "").unwrap(),
        "full disk" => std::os::unix::fs::symlink("/dev/full", at).unwrap(),
        "pipe" => assert!(Command::new("mkfifo").arg(at).status().unwrap().success()),
        other => panic!("{other}"),
    }
}

#[test]
fn row_30_metrics_that_cannot_be_written_are_told_once_and_change_nothing() {
    let all = [("metrics.jsonl", "folder"), ("metrics.jsonl", "full disk"), ("tensorboard", "file")];
    for (sink, kind) in all {
        let home = tempfile::tempdir().unwrap();
        Small::new(home.path(), "").train(&mut Ear { stop_after: Some(3), ..Ear::default() }).unwrap();
        put(kind, &home.path().join(sink));
        let mut ear = Ear::default();
        Small::new(home.path(), "").resumed(&[]).train(&mut ear).unwrap();
        let name = if sink == "tensorboard" { "TensorBoard" } else { sink };
        assert_eq!(ear.notices.len(), 1, "{kind}: {:?}", ear.notices);
        assert!(
            ear.notices[0].contains(name) && ear.notices[0].contains("cannot be written"),
            "{:?}",
            ear.notices
        );
        assert_eq!(&state(home.path()), unbroken(), "{kind}");
    }
}

#[test]
fn row_30_a_sink_that_works_again_is_told_as_well() {
    let home = tempfile::tempdir().unwrap();
    let metrics = home.path().join("metrics.jsonl");
    Small::new(home.path(), "").train(&mut Ear { stop_after: Some(3), ..Ear::default() }).unwrap();
    put("folder", &metrics);
    let mut ear = Ear { repair: Some((6, metrics.clone())), ..Ear::default() };
    Small::new(home.path(), "").resumed(&[]).train(&mut ear).unwrap();
    assert!(
        ear.notices[1].contains("metrics.jsonl is written again; 3 rows are missing"),
        "{:?}",
        ear.notices
    );
    assert_eq!(fs::read_to_string(metrics).unwrap().lines().count(), 2);
    assert_eq!(&state(home.path()), unbroken());
}

const SHORT: [&str; 12] = [
    "--sft.steps",
    "1",
    "--sft.rows",
    "1",
    "--rl.steps",
    "0",
    "--threads",
    "1",
    "--evaluation.validation_pairs",
    "2",
    "--evaluation.held_out_pairs",
    "2",
];

fn train(out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("patarm"));
    command.args(["train", "--out", out]).args(SHORT).args(more);
    command
}

#[test]
fn row_30_a_run_resumed_onto_a_pipe_that_nobody_reads_ends_well_with_a_report() {
    let home = Home::new();
    let out = home.path("run");
    Ended::of(&train(&out, &[]).output().unwrap()).well();
    put("pipe", &Path::new(&out).join("metrics.jsonl"));
    let more = ["--resume", "--allow", "sft", "--sft.steps", "3"];
    let ended = Ended::of(&train(&out, &more).output().unwrap());
    ended.well();
    assert!(ended.talk.contains("metrics.jsonl"), "{}", ended.talk);
    assert!(Path::new(&out).join("report.html").is_file());
}

#[test]
fn row_30_a_run_whose_terminal_went_away_goes_on_to_its_end() {
    let home = Home::new();
    let out = home.path("run");
    let mut child = train(&out, &[]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take()); // whatever it says from now on fails
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert!(Path::new(&out).join("result.json").is_file());
}
