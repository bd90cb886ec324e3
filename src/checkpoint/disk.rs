use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Every step that a save takes on a disk, so that a test can make any one of them fail.
pub trait Disk {
    /// Creates a folder, and its parents where they are missing.
    ///
    /// # Errors
    /// What the disk answers; so for every step.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Creates a file, lets `fill` write it, and returns once its contents are durable.
    ///
    /// # Errors
    /// When the file exists, or the disk is full or fails.
    fn write_file(
        &self,
        path: &Path,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// When the disk fails.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a folder another name; an empty folder of that name is replaced.
    ///
    /// # Errors
    /// When something else has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Bytes that may still be written below a folder. A file system that does not tell has no end.
    ///
    /// # Errors
    /// When it is not there.
    fn free(&self, folder: &Path) -> io::Result<u64>;

    /// Removes a file.
    ///
    /// # Errors
    /// When it is not there.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and everything in it.
    ///
    /// # Errors
    /// When it is not there.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// The machine's own disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write_file(
        &self,
        path: &Path,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut writer = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
        fill(&mut writer)?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn free(&self, folder: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(folder)?;
        let told = found.f_blocks > 0; // some network file systems say 0 of 0
        Ok(if told { found.f_bavail.saturating_mul(found.f_frsize) } else { u64::MAX })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}
