//! Rows 27 to 29: run folders that are damaged, changed or taken.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use patarm::checkpoint::{CheckpointError, MARKER, Marker};
use patarm::trainer::{Resume, RunFolder, TrainError};
use serde_json::{Value, json};

use crate::program::{Ended, Home, patarm};
use crate::small_run::{Ear, Small, checkpoints, config, new_setup, origin, setup, state, unbroken};

/// A run of the program that takes long.
fn long_run(out: &str) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("patarm"));
    command.args(["train", "--out", out, "--sft.rows", "8", "--rl.steps", "0", "--threads", "1"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "no {}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn row_29_a_second_process_on_a_run_folder_ends_at_once_and_names_the_first() {
    let home = Home::new();
    let out = home.path("run");
    let mut first = long_run(&out);
    wait_for(&Path::new(&out).join("config.toml"));
    let pid = first.id().to_string();
    for resume in [&[][..], &["--resume"]] {
        let began = Instant::now();
        patarm(&[&["train", "--out", &out], resume].concat()).refused(2, &["in use by process", &pid, "on"]);
        assert!(began.elapsed() < Duration::from_secs(10), "at once: before anything is read");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let short = ["--sft.steps", "1", "--sft.rows", "1", "--rl.steps", "0"];
    let allowed = ["--allow", "sft,rl", "--evaluation.held_out_pairs", "4", "--allow", "evaluation"];
    let third = [&["train", "--out", &out, "--resume"], &short[..], &allowed].concat();
    patarm(&third).well(); // a killed process holds nothing
}

#[test]
fn row_29_a_claim_ends_with_its_run_and_leaves_no_file() {
    let home = tempfile::tempdir().unwrap();
    let (path, config) = (home.path().join("run"), config(""));
    let open = || RunFolder::open(&path, &config, Resume::No, &origin());
    let first = open().unwrap();
    assert!(matches!(open(), Err(TrainError::Taken { .. })));
    drop(first);
    assert!(!path.join("lock.json").exists());
    open().unwrap();
}

/// The first bit of the last byte of a file.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn row_27_a_damaged_newest_checkpoint_is_told_and_the_one_before_is_taken_to_the_same_end() {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear { stop_after: Some(5), ..Ear::default() };
    Small::new(home.path(), "").train(&mut ear).unwrap();
    let newest = checkpoints(home.path()).pop().unwrap();
    flip(&newest.join("state.safetensors"));
    let mut ear = Ear::default();
    Small::new(home.path(), "").resumed(&[]).train(&mut ear).unwrap();
    assert!(
        ear.notices[0].contains("step-00000005") && ear.notices[0].contains("damaged"),
        "{:?}",
        ear.notices
    );
    assert_eq!(ear.rows[0].step, 5, "step 4 is the newest sound one");
    assert_eq!(&state(home.path()), unbroken());
}

#[test]
fn row_27_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew() {
    let home = tempfile::tempdir().unwrap();
    Small::new(home.path(), "").train(&mut Ear::default()).unwrap();
    checkpoints(home.path()).iter().for_each(|path| flip(&path.join("model.safetensors")));
    let result = Small::new(home.path(), "").resumed(&[]).train(&mut Ear::default());
    assert!(matches!(result, Err(TrainError::Checkpoint(CheckpointError::NoneSound { .. }))), "{result:?}");
}

#[test]
fn row_27_verify_ends_with_4_and_names_the_damaged_file() {
    let home = Home::new();
    let run = home.path("run");
    Small::new(Path::new(&run), "").train(&mut Ear::default()).unwrap();
    assert_eq!(patarm_ckpt(&["verify", &run]).well()["sound"], true);
    let newest = checkpoints(Path::new(&run)).pop().unwrap();
    flip(&newest.join("model.safetensors"));
    patarm_ckpt(&["verify", &run]).refused(4, &["model.safetensors", "blake3"]);
    patarm_ckpt(&["verify", newest.to_str().unwrap()]).refused(4, &["step-00000008"]);
    patarm_ckpt(&["verify", &home.path("absent")]).refused(4, &["absent"]);
}

#[test]
fn row_27_diff_names_settings_and_tensors_that_differ() {
    let home = Home::new();
    let [a, b] = ["a", "b"].map(|name| home.path(name));
    for (path, lr) in [(&a, "0.001"), (&b, "0.002")] {
        let changes = format!("rl.steps = 0\nsft.optimizer = {{ lr = {lr} }}");
        Small::new(Path::new(path), &changes).train(&mut Ear::default()).unwrap();
    }
    let [a, b] = [a, b].map(|run| checkpoints(Path::new(&run)).pop().unwrap().to_str().unwrap().to_owned());
    assert_eq!(patarm_ckpt(&["diff", &a, &a]).well()["equal"], true);
    let ended = patarm_ckpt(&["diff", &a, &b]);
    assert_eq!(ended.code, Some(1), "{}", ended.talk);
    let found: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(found["facts"]["state.config.sft.optimizer.lr"], json!([0.001, 0.002]));
    let embedding = &found["tensors"]["model.embed_tokens.weight"];
    assert_eq!(embedding["elements"], json!(875 * 8));
    assert!(embedding["largest"].as_f64().unwrap() > 0.0 && embedding["differing"].as_u64().unwrap() > 0);
}

#[test]
fn row_28_other_settings_and_other_data_are_refused_key_by_key_unless_allowed() {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear { stop_after: Some(5), ..Ear::default() };
    Small::new(home.path(), "").train(&mut ear).unwrap();
    let refused = |changes: &str, allowed: &[&str], setup| {
        let small = Small { setup, ..Small::new(home.path(), changes).resumed(allowed) };
        match small.train(&mut Ear::default()) {
            Err(TrainError::Changed { differences, .. }) => differences,
            other => panic!("{other:?}"),
        }
    };
    let text = refused("rl.pairs = 3\nsft.rows = 5", &[], setup());
    assert!(text.contains("rl.pairs: 2 -> 3") && text.contains("sft.rows: 4 -> 5"), "{text}");
    assert!(text.ends_with("--allow rl.pairs,sft.rows"), "{text}");
    let text = refused("rl.pairs = 3\nsft.rows = 5", &["rl", "sft.row"], setup());
    assert!(!text.contains("rl.pairs") && text.contains("sft.rows"), "a name covers whole keys only: {text}");
    let mut other = new_setup();
    other.data.hash = "another".into();
    let text = refused("", &[], &other);
    assert!(text.contains("data: ") && text.contains("-> another"), "{text}");
    let small =
        Small { setup: &other, ..Small::new(home.path(), "rl.pairs = 3").resumed(&["data", "rl.pairs"]) };
    assert_eq!(small.train(&mut Ear::default()).unwrap().step, 8);
}

#[test]
fn row_28_a_checkpoint_of_another_program_or_number_of_processes_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear { stop_after: Some(5), ..Ear::default() };
    Small::new(home.path(), "").train(&mut ear).unwrap();
    let newest = checkpoints(home.path()).pop().unwrap();
    rewrite_facts(&newest, &[("world", json!(4)), ("program", json!("0.0.9"))]);
    let result = Small::new(home.path(), "").resumed(&["program"]).train(&mut Ear::default());
    let Err(TrainError::Changed { differences, .. }) = result else { panic!("{result:?}") };
    assert_eq!(differences, "  world: 4 -> 1\nto go on all the same: --allow world");
    Small::new(home.path(), "").resumed(&["program", "world"]).train(&mut Ear::default()).unwrap();
    assert_eq!(&state(home.path()), unbroken());
}

#[test]
fn row_28_a_checkpoint_of_the_first_version_still_loads_and_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version_1");
    copy(&old, home.path());
    let mut ear = Ear::default();
    let progress = Small::new(home.path(), "checkpoint.keep = 1").resumed(&[]).train(&mut ear).unwrap();
    assert_eq!((ear.rows[0].step, progress.step), (7, 8));
    assert_eq!(progress.curve.len(), 3, "what it had found out is still known");
}

/// Changes what a checkpoint says about its run, and its marker with it.
fn rewrite_facts(checkpoint: &Path, changes: &[(&str, Value)]) {
    let at = checkpoint.join("state.json");
    let mut facts: Value = serde_json::from_slice(&fs::read(&at).unwrap()).unwrap();
    changes.iter().for_each(|(name, value)| facts[name] = value.clone());
    let bytes = serde_json::to_vec(&facts).unwrap();
    fs::write(&at, &bytes).unwrap();
    let mut marker = Marker::read(checkpoint).unwrap();
    let record = marker.files.get_mut("state.json").unwrap();
    (record.bytes, record.blake3) = (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string());
    fs::write(checkpoint.join(MARKER), serde_json::to_vec(&marker).unwrap()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn patarm_ckpt(arguments: &[&str]) -> Ended {
    let mut command = assert_cmd::Command::cargo_bin("patarm").unwrap();
    Ended::of(&command.arg("ckpt").args(arguments).output().unwrap())
}
