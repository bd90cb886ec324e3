//! A disk whose steps fail as told.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use patarm::checkpoint::{Disk, LocalDisk};

/// Steps `at .. at + times` fail with the system's error number `error`. A file counts as three steps: created, half written, made
/// durable.
#[derive(Clone)]
pub(crate) struct BrokenDisk {
    pub(crate) at: usize,
    pub(crate) times: usize,
    pub(crate) error: i32,
    pub(crate) free: u64,
    pub(crate) done: Arc<AtomicUsize>,
}

impl BrokenDisk {
    pub(crate) fn new(at: usize, times: usize, error: i32) -> Self {
        Self { at, times, error, free: u64::MAX, done: Arc::default() }
    }

    fn step(&self) -> io::Result<()> {
        let step = self.done.fetch_add(1, Ordering::Relaxed);
        let fails = step.checked_sub(self.at).is_some_and(|since| since < self.times);
        if fails { Err(io::Error::from_raw_os_error(self.error)) } else { Ok(()) }
    }
}

impl Disk for BrokenDisk {
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

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| LocalDisk.remove_file(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| LocalDisk.remove_folder(path))
    }
}
