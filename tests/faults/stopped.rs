//! Row 24: runs that are asked to end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Home, patarm};
use crate::small_run::{Ear, Small, checkpoints, left_behind, state, unbroken};

/// How long a run may take from the signal to its end: far longer than the checkpoint, far shorter than the phase it is in.
const GRACE: Duration = Duration::from_secs(30);

/// The demo without a cold start, with two pairs to judge and one step whose sampling takes minutes.
const LONG_SAMPLING: [&str; 12] = [
    "--sft.steps",
    "0",
    "--rl.steps",
    "1",
    "--rollout.samples",
    "512",
    "--rollout.max_new_tokens",
    "64",
    "--evaluation.validation_pairs",
    "2",
    "--evaluation.held_out_pairs",
    "2",
];

/// The program in the midst of a run.
struct Going {
    child: Child,
    talk: BufReader<std::process::ChildStderr>,
    out: String,
}

impl Going {
    fn start(out: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("patarm"));
        command.args(["train", "--out", out, "--threads", "1"]).args(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Self { talk: BufReader::new(child.stderr.take().unwrap()), child, out: out.to_owned() }
    }

    fn until_it_says(mut self, word: &str) -> Self {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(self.talk.read_line(&mut line).unwrap(), 0, "it ended without saying `{word}`");
        }
        self
    }

    fn until_there_is(self, file: &str) -> Self {
        let (began, path) = (Instant::now(), Path::new(&self.out).join(file));
        while !path.exists() {
            assert!(began.elapsed() < Duration::from_secs(120), "no {}", path.display());
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    fn signal(&self, signals: &[&str]) {
        for signal in signals {
            let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
            assert!(sent.unwrap().success());
            std::thread::sleep(Duration::from_millis(200)); // two of a kind that wait together are one
        }
    }

    /// The exit code that the signals lead to.
    fn ended(mut self) -> Option<i32> {
        let began = Instant::now();
        while began.elapsed() < GRACE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().unwrap();
        panic!("it did not end in {GRACE:?}");
    }
}

fn saved(out: &str) -> Vec<String> {
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    checkpoints(Path::new(out)).iter().map(name).collect()
}

#[test]
fn row_24_wherever_a_run_is_asked_to_end_it_saves_and_the_resumed_run_ends_with_the_same_bits() {
    let mut whole = Ear::default();
    let home = tempfile::tempdir().unwrap();
    let expected = Small::new(home.path(), "").train(&mut whole).unwrap();
    let asked = whole.asked.get();
    assert!(asked > 40, "between all decode steps and micro-batches, {asked} times");
    for patience in 0..asked {
        let home = tempfile::tempdir().unwrap();
        let mut ear = Ear { patience: Some(patience), ..Ear::default() };
        let stopped = Small::new(home.path(), "").train(&mut ear).unwrap();
        assert_eq!(ear.asked.get(), patience + 1, "it ends where it is asked, and asks no more");
        assert_eq!(left_behind(home.path()), 0);
        let mut later = Ear::default();
        let resumed = Small::new(home.path(), "").resumed(&[]).train(&mut later).unwrap();
        assert_eq!(&state(home.path()), unbroken(), "stopped at question {patience}");
        let (before, curve) = (&resumed.before, &resumed.curve);
        assert_eq!((before, curve), (&expected.before, &expected.curve), "stopped at question {patience}");
        let steps = ear.rows.iter().chain(&later.rows).map(|row| row.step);
        assert_eq!(steps.collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>(), "stopped after {}", stopped.step);
    }
}

#[test]
fn row_24_however_often_sigterm_and_sigusr1_come_while_sampling_a_checkpoint_is_saved() {
    let home = Home::new();
    let out = home.path("run");
    let run = Going::start(&out, &LONG_SAMPLING).until_it_says("validation");
    std::thread::sleep(Duration::from_millis(300));
    let pid = run.child.id().to_string();
    let thrice = "kill -s TERM $0; kill -s USR1 $0; kill -s TERM $0";
    assert!(Command::new("sh").args(["-c", thrice, &pid]).status().unwrap().success());
    assert_eq!(run.ended(), Some(75));
    assert_eq!(saved(&out), ["step-00000000"]);
    let short = ["--rl.steps", "0", "--sft.steps", "0", "--allow", "rl,rollout,evaluation,reward"];
    let few = ["--evaluation.validation_pairs", "2", "--evaluation.held_out_pairs", "2"];
    patarm(&[&["train", "--out", &out, "--resume", "--allow", "data"], &short[..], &few].concat()).well();
}

#[test]
fn row_24_sigint_while_held_out_pairs_are_judged_saves_as_well() {
    let home = Home::new();
    let out = home.path("run");
    let more = ["--evaluation.judgements", "64", "--evaluation.held_out_pairs", "480"];
    let run = Going::start(&out, &[&LONG_SAMPLING[..8], &more].concat()).until_there_is("metrics.jsonl");
    run.signal(&["INT"]);
    assert_eq!(run.ended(), Some(75));
    assert_eq!(saved(&out), ["step-00000000"]);
}

#[test]
fn row_24_a_run_that_is_still_loading_ends_at_once_and_can_be_resumed() {
    for signal in ["TERM", "USR1", "INT"] {
        let home = Home::new();
        let out = home.path("run");
        let steps = ["--sft.steps", "1", "--sft.rows", "1", "--rl.steps", "0"];
        let few = ["--evaluation.held_out_pairs", "2", "--evaluation.validation_pairs", "2"];
        let run = Going::start(&out, &[&steps[..], &few].concat()).until_there_is("config.toml");
        run.signal(&[signal]);
        assert_eq!(run.ended(), Some(75), "{signal}");
        assert_eq!(saved(&out), Vec::<String>::new(), "it was still loading");
        if signal == "TERM" {
            patarm(&[&["train", "--out", &out, "--resume"], &steps[..], &few].concat()).well();
        }
    }
}

#[test]
fn row_24_sigint_twice_ends_at_once() {
    let home = Home::new();
    let out = home.path("run");
    // One micro-batch of a second or more: it is not asked in between.
    let heavy = ["--sft.rows", "512", "--rl.leaves", "20", "--sft.steps", "50"];
    let run = Going::start(&out, &heavy).until_there_is("metrics.jsonl");
    std::thread::sleep(Duration::from_millis(100));
    run.signal(&["INT", "INT"]);
    assert_eq!(run.ended(), Some(130));
}
