use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::report::Origin;
use crate::trainer::TrainError;

const LOCK: &str = "lock.json";

/// An exclusive claim on a run folder. The system holds it for this process and frees it however the process ends, so a claim
/// is never stale; the file only tells others who they meet.
#[derive(Debug)]
pub(super) struct RunLock {
    path: PathBuf,
    _file: File,
}

#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    /// Seconds since 1970-01-01 UTC.
    since: f64,
}

impl RunLock {
    /// Claims `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// `Taken` where another process has it; `Folder` where the file system offers no locks or can't be written.
    pub(super) fn take(folder: &Path, who: &Origin) -> Result<Self, TrainError> {
        let path = folder.join(LOCK);
        let fault = |e: std::io::Error| TrainError::Folder { path: path.clone(), reason: e.to_string() };
        fs::create_dir_all(folder).map_err(fault)?;
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(fault)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    return Err(TrainError::Taken { path: folder.to_owned(), holder: holder(&mut file) });
                }
                Err(TryLockError::Error(e)) => return Err(fault(e)),
                // Whoever had it may have removed the file between our opening and our locking it: then try the new one.
                Ok(()) if !stands_at(&file, &path) => {}
                Ok(()) => {
                    write_holder(&mut file, who).map_err(fault)?;
                    return Ok(Self { path, _file: file });
                }
            }
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // a file that stays claims nothing
    }
}

fn stands_at(file: &File, path: &Path) -> bool {
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    let ids = file.metadata().and_then(|a| Ok((id(a), id(fs::metadata(path)?))));
    ids.is_ok_and(|(a, b)| a == b)
}

fn write_holder(file: &mut File, who: &Origin) -> std::io::Result<()> {
    let holder = Holder { pid: who.pid, host: who.host.clone(), since: who.time };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(&holder)?)
}

/// Who has it, as far as the file tells: its owner may be just about to write it.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let told = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    told.map_or_else(
        || "another process".into(),
        |Holder { pid, host, since }| format!("process {pid} on {host}, since {since:.0} s after 1970 UTC"),
    )
}
