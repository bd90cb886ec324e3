//! Rows 24 and 25: runs that are stopped or killed.

use patarm::trainer::TrainError;

use crate::broken_disk::BrokenDisk;
use crate::small_run::{Ear, Small, checkpoints, left_behind, state, unbroken};

const NO_RETRY: &str = "checkpoint.retries = 0";
const EIO: i32 = 5;

#[test]
fn row_25_whatever_write_of_a_save_is_the_last_one_the_resumed_run_ends_with_the_same_bits() {
    let mut found = Vec::new();
    for at in 0.. {
        let home = tempfile::tempdir().unwrap();
        let mut ear = Ear { stop_after: Some(3), ..Ear::default() };
        Small::new(home.path(), NO_RETRY).train(&mut ear).unwrap();
        // From this step on nothing reaches the disk any more: the process is killed, the power is gone.
        let dead = BrokenDisk::new(at, usize::MAX, EIO);
        let killed = Small::new(home.path(), NO_RETRY).resumed(&[]).on(dead).train(&mut Ear::default());
        assert!(matches!(killed, Err(TrainError::Checkpoint(_))), "{killed:?}");
        let steps = checkpoints(home.path()).len();
        let newest = checkpoints(home.path()).pop().unwrap();
        let newest = newest.file_name().unwrap().to_str().unwrap().to_owned();
        Small::new(home.path(), NO_RETRY).resumed(&[]).train(&mut Ear::default()).unwrap();
        assert_eq!(&state(home.path()), unbroken(), "killed at {at}, found {newest} of {steps}");
        assert_eq!(left_behind(home.path()), 0);
        if newest == "step-00000006" {
            break; // two whole saves have been cut everywhere
        }
        found.push(newest);
    }
    let cut = |name: &str| found.iter().filter(|newest| *newest == name).count();
    assert!(cut("step-00000003") > 15 && cut("step-00000004") > 15, "{found:?}");
}
