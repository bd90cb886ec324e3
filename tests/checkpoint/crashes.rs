//! Rows 25 and 26 of the conformance table: whatever step of a save fails, once or for good, the older checkpoint is found.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::path::Path;

use patarm::checkpoint::{Better, CheckpointError, Checkpoints, Disk, Keep, LocalDisk, Save, State};
use serde_json::json;

use super::{config, named, weights};

#[derive(Clone, Copy, PartialEq)]
enum Fails {
    /// One step fails, the next ones work: a full disk that somebody clears.
    Once,
    /// Nothing works any more: the process was killed, the power is gone.
    ForGood,
}

/// A disk on which step number `at` fails. A file counts as three steps: created, half written, made durable.
struct FailingDisk {
    at: usize,
    fails: Fails,
    done: Cell<usize>,
}

impl FailingDisk {
    fn new(at: usize, fails: Fails) -> Self {
        Self { at, fails, done: Cell::new(0) }
    }

    fn step(&self) -> io::Result<()> {
        let step = self.done.replace(self.done.get() + 1);
        match self.fails {
            Fails::Once if step == self.at => Err(io::ErrorKind::StorageFull.into()),
            Fails::ForGood if step >= self.at => Err(io::Error::other("killed")),
            _ => Ok(()),
        }
    }
}

impl Disk for FailingDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| LocalDisk.create_folder(path))
    }

    fn write_file(
        &self,
        path: &Path,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.step()?;
        let mut contents = Vec::new();
        fill(&mut contents)?;
        let half = self.step();
        let written = if half.is_ok() { contents.len() } else { contents.len() / 2 };
        LocalDisk.write_file(path, &mut |out| out.write_all(&contents[..written]))?;
        half.and_then(|()| self.step())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| LocalDisk.sync_folder(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step().and_then(|()| LocalDisk.rename(from, to))
    }

    fn free(&self, folder: &Path) -> io::Result<u64> {
        self.step().and_then(|()| LocalDisk.free(folder))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| LocalDisk.remove_file(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| LocalDisk.remove_folder(path))
    }
}

/// Saves `step` of a run; later steps have better scores, so that pruning has work to do.
fn save(run: &Checkpoints, disk: &dyn Disk, step: u64) -> Result<(), CheckpointError> {
    let (weights, config, facts) = (weights(), config(), json!({ "step": step }));
    let (views, moments) = (named(&weights), named(&weights));
    let state = State { step, score: Some(step as f64), facts: &facts, tensors: &moments };
    run.save(disk, &Save { state: Some(state), ..Save::new(&config, &views) }).and_then(|saved| saved.pruned)
}

fn newest(run: &Checkpoints) -> u64 {
    run.newest().expect("a folder that can be listed").expect("a complete checkpoint").marker.step
}

fn run_in(folder: &Path) -> Checkpoints {
    Checkpoints::new(folder, Keep { last: 1, better: Better::Higher })
}

#[test]
fn whatever_step_of_a_save_fails_a_complete_checkpoint_is_found_and_the_next_save_works() {
    for fails in [Fails::Once, Fails::ForGood] {
        let (mut at, mut failures) = (0, 0);
        loop {
            let folder = tempfile::tempdir().expect("a folder");
            let run = run_in(folder.path());
            save(&run, &LocalDisk, 10).expect("the first save");
            let result = save(&run, &FailingDisk::new(at, fails), 20);
            let found = newest(&run);
            assert!(found == 20 || (found == 10 && result.is_err()), "step {at}: found {found}, {result:?}");
            save(&run, &LocalDisk, 30).unwrap_or_else(|e| panic!("step {at}: the next save: {e}"));
            assert_eq!(newest(&run), 30);
            let left = std::fs::read_dir(folder.path()).expect("listed").count();
            assert_eq!(left, 1, "step {at}: what a failed save left is cleared by the next one");
            failures += usize::from(result.is_err());
            at += 1;
            if result.is_ok() {
                break;
            }
        }
        assert!(failures > 20, "only {failures} steps were made to fail");
    }
}

/// A disk that writes down the order of its steps.
#[derive(Default)]
struct Journal(RefCell<Vec<String>>);

impl Journal {
    fn note(&self, what: &str, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.0.borrow_mut().push(format!("{what} {name}"));
    }
}

impl Disk for Journal {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_folder(path)
    }

    fn write_file(
        &self,
        path: &Path,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.note("write", path);
        LocalDisk.write_file(path, fill)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.note("sync", path);
        LocalDisk.sync_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", to);
        LocalDisk.rename(from, to)
    }

    fn free(&self, folder: &Path) -> io::Result<u64> {
        LocalDisk.free(folder)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.note("remove", path);
        LocalDisk.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.note("remove", path);
        LocalDisk.remove_folder(path)
    }
}

#[test]
fn the_marker_is_written_last_the_rename_follows_and_only_then_is_an_old_one_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, journal) = (run_in(&folder.path().join("run")), Journal::default());
    save(&run, &LocalDisk, 10).expect("saved");
    save(&run, &journal, 20).expect("saved");
    let expected = [
        "write config.json",
        "write model.safetensors",
        "write state.json",
        "write state.safetensors",
        "sync .step-00000020.partial",
        "write complete.json",
        "sync .step-00000020.partial",
        "rename step-00000020",
        "sync run",
        "remove complete.json",
        "sync step-00000010",
        "remove step-00000010",
    ];
    assert_eq!(*journal.0.borrow(), expected);
}
