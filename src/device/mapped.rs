use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// A file's bytes where they lie, read-only.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for an empty file: a mapping has at least one byte.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps a regular file.
    ///
    /// # Errors
    /// When it can't be opened or mapped, or is no regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let kind = file.metadata()?;
        if !kind.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if kind.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the map is private to this process and only read. Files that this program writes are never changed in
        // place: they are written under another name, made durable and renamed. A file that somebody else cuts while it
        // is mapped ends the process with SIGBUS; no byte outside the map is ever read.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Some(map) })
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
