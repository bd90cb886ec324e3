use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CheckpointError, config};
use crate::device::MappedFile;

/// Name of the file that is written last: a folder without it is not complete.
pub const MARKER: &str = "complete.json";

/// What the marker says: what was saved, and how to know that it is still what was saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// Format of the folder: 1.
    pub format: u32,
    /// Optimizer updates so far; 0 for a model that was never trained here.
    pub step: u64,
    /// The held-out metric at that step, if it was measured.
    pub score: Option<f64>,
    /// Every other file of the save.
    pub files: BTreeMap<String, FileRecord>,
}

/// One file as it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Length in bytes.
    pub bytes: u64,
    /// blake3 hash, hexadecimal.
    pub blake3: String,
}

impl Marker {
    /// The marker of a complete folder.
    ///
    /// # Errors
    /// When there is none, it is malformed, or of a format that this program does not know.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let at = folder.join(MARKER);
        let marker: Self =
            config::read_json(&at)?.ok_or_else(|| CheckpointError::Incomplete { path: folder.to_owned() })?;
        if marker.format != 1 {
            let reason =
                format!("format {} is not known here (1 is): written by a newer version?", marker.format);
            return Err(CheckpointError::malformed(&at, reason));
        }
        Ok(marker)
    }

    /// Reads every file of the save and compares length and hash.
    ///
    /// # Errors
    /// The first file that differs or can't be read.
    pub fn verify(&self, folder: &Path) -> Result<(), CheckpointError> {
        for (name, told) in &self.files {
            let path = folder.join(name);
            let map = MappedFile::open(&path).map_err(CheckpointError::io(&path, "read it"))?;
            let found = FileRecord::of(map.bytes());
            let reason = if found.bytes != told.bytes {
                format!("{} bytes, {} were written", found.bytes, told.bytes)
            } else if found.blake3 != told.blake3 {
                format!("its blake3 hash is {}, {} was written", found.blake3, told.blake3)
            } else {
                continue;
            };
            return Err(CheckpointError::Damaged { path, reason });
        }
        Ok(())
    }
}

impl FileRecord {
    fn of(bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes);
        Self { bytes: bytes.len() as u64, blake3: hasher.finalize().to_hex().to_string() }
    }
}

/// Passes bytes on and remembers what a [`FileRecord`] needs.
pub(super) struct Hashing<'a> {
    inner: &'a mut dyn Write,
    hasher: blake3::Hasher,
}

impl<'a> Hashing<'a> {
    pub(super) fn new(inner: &'a mut dyn Write) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    pub(super) fn record(self) -> FileRecord {
        FileRecord { bytes: self.hasher.count(), blake3: self.hasher.finalize().to_hex().to_string() }
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
