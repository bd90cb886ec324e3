//! Rows 26 and 30: disks that fail.

use std::fs;
use std::process::Command;

use patarm::checkpoint::CheckpointError;
use patarm::trainer::TrainError;

use crate::broken_disk::BrokenDisk;
use crate::small_run::{Ear, Small, checkpoints, left_behind, state, unbroken};

/// ENOSPC, EDQUOT, EIO, EROFS.
const REFUSALS: [i32; 4] = [28, 122, 5, 30];

#[test]
fn row_26_a_disk_that_recovers_costs_pauses_and_changes_nothing() {
    for (i, error) in REFUSALS.into_iter().enumerate() {
        let home = tempfile::tempdir().unwrap();
        let mut ear = Ear::default();
        let disk = BrokenDisk::new(20 + i, 3, error); // in the first saves, at the marker, the rename and what follows
        Small::new(home.path(), "").on(disk).train(&mut ear).unwrap();
        assert_eq!(&state(home.path()), unbroken(), "error {error}");
        assert_eq!(left_behind(home.path()), 0);
        assert!(!ear.waited.is_empty() && ear.waited.len() <= 3, "{:?}", ear.waited);
        assert_eq!(ear.waited.len(), ear.notices.len(), "each pause is told: {:?}", ear.notices);
        assert!(ear.notices[0].contains("the run pauses"), "{:?}", ear.notices);
    }
}

#[test]
fn row_26_a_disk_that_stays_broken_ends_the_run_and_keeps_the_old_checkpoint() {
    for error in REFUSALS {
        let home = tempfile::tempdir().unwrap();
        let mut ear = Ear::default();
        Small::new(home.path(), "sft.steps = 2\nrl.steps = 0").train(&mut Ear::default()).unwrap();
        let before = state(home.path());
        let more = Small::new(home.path(), "sft.steps = 4\nrl.steps = 0").resumed(&[
            "sft.steps",
            "sft.optimizer",
            "rl",
        ]);
        let result = more.on(BrokenDisk::new(6, 1000, error)).train(&mut ear);
        let Err(TrainError::Checkpoint(CheckpointError::Io { source, .. })) = result else {
            panic!("error {error}: {result:?}");
        };
        assert_eq!(source.raw_os_error(), Some(error));
        assert_eq!(
            ear.waited,
            [10.0, 20.0, 40.0, 80.0, 160.0],
            "bounded, and each pause twice the one before"
        );
        assert_eq!(state(home.path()), before, "the old checkpoint is intact");
    }
}

#[test]
fn row_26_free_space_is_looked_at_before_the_first_step_and_before_each_save() {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear::default();
    let full = BrokenDisk { free: 1000, ..BrokenDisk::new(0, 0, 0) };
    let result = Small::new(home.path(), "").on(full).train(&mut ear);
    assert!(matches!(result, Err(TrainError::Checkpoint(CheckpointError::NoRoom { free: 1000, .. }))));
    assert!(ear.rows.is_empty(), "no step is made that could not be saved");
    let home = tempfile::tempdir().unwrap();
    let narrow = BrokenDisk { free: 400_000, ..BrokenDisk::new(0, 0, 0) };
    Small::new(home.path(), "").on(narrow).train(&mut ear).unwrap();
    assert!(ear.notices[0].contains("400000 bytes are free"), "{:?}", ear.notices);
}

#[test]
fn row_26_a_file_that_cannot_grow_ends_the_program_with_exit_code_8() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("run");
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$@\""; // writes beyond 64 blocks fail in the midst of a file
    let mut command = Command::new("sh");
    command.args(["-c", limited, "sh"]).arg(assert_cmd::cargo::cargo_bin!("patarm")).arg("train");
    command.arg("--out").arg(&out).args(["--sft.steps", "2", "--sft.rows", "2", "--rl.steps", "0"]);
    command.args(["--checkpoint.retries", "1", "--checkpoint.retry_seconds", "0.1", "--threads", "1"]);
    let output = command.output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{talk}");
    assert!(talk.contains("the run pauses") && talk.contains("File too large"), "{talk}");
    assert!(checkpoints(&out).is_empty());
    assert_eq!(fs::read_dir(out.join("checkpoints")).unwrap().count(), 0, "nothing temporary stays");
}
