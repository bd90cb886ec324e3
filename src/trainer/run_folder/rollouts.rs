use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::RunFolder;
use crate::record::{JudgedRollout, RecordError, ReplayWriter};

/// Where a run folder keeps its judgements.
const ROLLOUTS: &str = "rollouts";

impl RunFolder {
    /// Writes a step's judgements to `rollouts/step-00000012.jsonl`.
    ///
    /// # Errors
    /// When the file can't be written, or a number is not finite.
    pub fn keep_rollouts(&self, step: u64, judged: &[JudgedRollout]) -> Result<(), RecordError> {
        let folder = self.path().join(ROLLOUTS);
        let at = folder.join(format!("step-{step:08}.jsonl"));
        let failed = |source| RecordError::File { path: at.clone(), line: 0, source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut writer = ReplayWriter::new(BufWriter::new(File::create(&at).map_err(failed)?), &at);
        judged.iter().try_for_each(|judged| writer.write(judged))?;
        writer.finish().map(drop)
    }

    /// The files of judgements that the run folder `run` keeps, in the order of steps.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn rollouts(run: &Path) -> Result<Vec<PathBuf>, RecordError> {
        let folder = run.join(ROLLOUTS);
        let failed = |source| RecordError::File { path: folder.clone(), line: 0, source };
        let entries = fs::read_dir(&folder).map_err(failed)?;
        let mut files: Vec<PathBuf> =
            entries.collect::<Result<Vec<_>, _>>().map_err(failed)?.iter().map(fs::DirEntry::path).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        Ok(files)
    }
}
