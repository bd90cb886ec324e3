use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::metrics::{Row, Sink, Start};

/// `metrics.jsonl`: one JSON object a step, on disk before the next step begins.
pub struct JsonLines {
    tail: Tail,
}

impl JsonLines {
    /// Opens or makes the file. After [`Start::After`] it holds the whole rows up to that step and nothing else: a row
    /// that a dying process left half written goes too.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(path: &Path, start: Start) -> io::Result<Self> {
        // A pipe that nobody reads fails at once: it must not hold the run up.
        let at_once = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).custom_flags(at_once);
        let file = options.open(path)?;
        let kept = match start {
            Start::After(step) if file.metadata()?.is_file() => whole_rows(&file, step)?,
            Start::After(_) | Start::Fresh => 0,
        };
        Ok(Self { tail: Tail::new(file, kept)? })
    }
}

impl Sink for JsonLines {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.tail.append(&line)
    }
}

/// Bytes of the rows at the file's start that are whole and not later than `step`.
fn whole_rows(file: &File, step: u64) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut kept, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        let whole = line.last() == Some(&b'\n');
        match serde_json::from_slice::<Row>(&line) {
            Ok(row) if whole && row.step <= step => kept += read as u64,
            _ => return Ok(kept),
        }
    }
}

/// A row of a metrics file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is no row.
    #[error("{path}:{line}: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Reads `metrics.jsonl` back, in file order. A last line without its line end was cut off and is left out.
///
/// # Errors
/// `File` where it cannot be read, `Line` for a whole line that is no row.
pub fn read_rows(path: &Path) -> Result<Vec<Row>, RowError> {
    let fault = |source| RowError::File { path: path.into(), source };
    if !std::fs::metadata(path).map_err(fault)?.is_file() {
        return Err(fault(io::Error::other("not a file that can be read back")));
    }
    let text = std::fs::read_to_string(path).map_err(fault)?;
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let row = |(index, line)| {
        serde_json::from_str(line).map_err(|source| RowError::Line {
            path: path.into(),
            line: index + 1,
            source,
        })
    };
    whole.lines().enumerate().map(row).collect()
}

/// The end of a growing file: an addition is there as a whole or, after an error, not at all.
pub(super) struct Tail {
    file: File,
    length: u64,
}

impl Tail {
    /// Cuts the file at `length` and goes on from there.
    pub(super) fn new(file: File, length: u64) -> io::Result<Self> {
        let mut tail = Self { file, length };
        tail.cut()?;
        Ok(tail)
    }

    /// Adds `bytes` and hands them to the system.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes).and_then(|()| self.file.flush()) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.cut().ok(); // the write's own error says more than a failing repair
                Err(error)
            }
        }
    }

    fn cut(&mut self) -> io::Result<()> {
        if self.file.metadata()?.is_file() {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
        }
        Ok(())
    }
}
