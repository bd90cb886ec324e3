//! Rows 27 to 29: run folders that are damaged, changed or taken.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use patarm::trainer::{Resume, RunFolder, TrainError};

use crate::program::{Home, patarm};
use crate::small_run::{config, origin};

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
