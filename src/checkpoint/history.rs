use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use super::save::room;
use super::{CheckpointError, Disk, Marker, Save};

/// What ends the name of a checkpoint whose step was saved before without a score.
const SCORED: &str = "-scored";

/// Which of two scores is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Accuracy.
    Higher,
    /// Loss.
    Lower,
}

/// Which checkpoints of a run are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many; at least 1.
    pub last: usize,
    /// The best one is kept as well, by this order of its score.
    pub better: Better,
}

/// The checkpoints of one run: folders `step-00000020` in one folder.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: Keep,
}

/// A checkpoint whose every file was compared with its hash.
#[derive(Debug)]
pub struct Found {
    /// Its folder.
    pub path: PathBuf,
    /// What it says about itself.
    pub marker: Marker,
    /// Newer ones that were passed over, and why: to be shown as warnings.
    pub passed_over: Vec<CheckpointError>,
}

/// A checkpoint that was saved.
#[derive(Debug)]
pub struct Saved {
    /// Its folder.
    pub path: PathBuf,
    /// Whether the older ones that are no longer wanted could be removed.
    pub pruned: Result<(), CheckpointError>,
}

impl Checkpoints {
    /// The checkpoints in `folder`, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>, keep: Keep) -> Self {
        Self { folder: folder.into(), keep }
    }

    /// Which are kept.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Bytes that the disk has left for checkpoints, at least `needed`.
    ///
    /// # Errors
    /// `NoRoom` where there are fewer; when the folder can't be made.
    pub fn room(&self, disk: &dyn Disk, needed: u64) -> Result<u64, CheckpointError> {
        disk.create_folder(&self.folder).map_err(CheckpointError::io(&self.folder, "create it"))?;
        room(disk, &self.folder, needed)
    }

    /// Saves a checkpoint of the run's step, then removes those that are neither best nor among the last. A run that was stopped
    /// before it judged this step has left a checkpoint of it without a score: that one goes once the one with a score is there.
    ///
    /// # Errors
    /// When the disk fails (all older checkpoints are still there), or a sound checkpoint of this step exists.
    pub fn save(&self, disk: &dyn Disk, save: &Save<'_>) -> Result<Saved, CheckpointError> {
        let (step, score) = save.state.as_ref().map_or((0, None), |state| (state.step, state.score));
        let scored = self.folder.join(format!("step-{step:08}{SCORED}"));
        if sound(&scored).is_ok() {
            return Err(CheckpointError::Exists { path: scored });
        }
        let mut path = self.folder.join(format!("step-{step:08}"));
        if score.is_some() && sound(&path).is_ok_and(|marker| marker.score.is_none()) {
            path = scored;
        }
        disk.create_folder(&self.folder).map_err(CheckpointError::io(&self.folder, "create it"))?;
        if path.exists() && sound(&path).is_err() {
            remove(disk, &path)?; // the run fell back to an older one and has come here again
        }
        save.write(disk, &path)?;
        Ok(Saved { path, pruned: self.prune(disk) })
    }

    /// The newest checkpoint that is complete and undamaged; none where nothing was saved yet.
    ///
    /// # Errors
    /// When the folder can't be read, or none of its checkpoints is sound: a run does not begin anew by accident.
    pub fn newest(&self) -> Result<Option<Found>, CheckpointError> {
        let mut passed_over = Vec::new();
        let mut steps = self.steps()?;
        steps.sort_by_key(|(step, path)| Reverse((*step, path.clone())));
        for (_, path) in steps {
            match sound(&path) {
                Ok(marker) => return Ok(Some(Found { path, marker, passed_over })),
                Err(why) => passed_over.push(why),
            }
        }
        match passed_over.is_empty() {
            true => Ok(None),
            false => {
                let reasons = passed_over.iter().map(ToString::to_string).collect();
                Err(CheckpointError::NoneSound { path: self.folder.clone(), reasons })
            }
        }
    }

    /// The complete checkpoint with the best score; of equals the newest.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn best(&self) -> Result<Option<(PathBuf, Marker)>, CheckpointError> {
        let scored = self.complete()?.into_iter().filter_map(|(path, m)| m.score.map(|s| (s, path, m)));
        let rank = |score: f64| if self.keep.better == Better::Higher { score } else { -score };
        let best = scored.max_by(|a, b| rank(a.0).total_cmp(&rank(b.0)));
        Ok(best.map(|(_, path, marker)| (path, marker)))
    }

    /// Complete checkpoints, oldest first.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn complete(&self) -> Result<Vec<(PathBuf, Marker)>, CheckpointError> {
        let steps = self.steps()?;
        let mut all: Vec<_> =
            steps.into_iter().filter_map(|(_, path)| Some((Marker::read(&path).ok()?, path))).collect();
        all.sort_by(|(a, at), (b, bt)| (a.step, at).cmp(&(b.step, bt)));
        Ok(all.into_iter().map(|(marker, path)| (path, marker)).collect())
    }

    fn prune(&self, disk: &dyn Disk) -> Result<(), CheckpointError> {
        let best = self.best()?.map(|(path, _)| path);
        let mut complete = self.complete()?;
        complete.reverse();
        complete.dedup_by_key(|(_, marker)| marker.step); // of one step the one with a score
        complete.reverse();
        let old = complete.len().saturating_sub(self.keep.last.max(1));
        let kept: Vec<&PathBuf> = complete[old..].iter().map(|(path, _)| path).chain(&best).collect();
        for path in self.entries()?.into_iter().filter(|path| is_ours(path) && !kept.contains(&path)) {
            remove(disk, &path)?; // no longer wanted, half removed, or left by a save that was cut off
        }
        Ok(())
    }

    /// Folders that are named like a checkpoint, complete or not.
    fn steps(&self) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
        let step = |path: &Path| step_of(path.file_name()?.to_str()?);
        Ok(self.entries()?.into_iter().filter_map(|path| Some((step(&path)?, path))).collect())
    }

    fn entries(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let failed = || CheckpointError::io(&self.folder, "list it");
        match self.folder.read_dir() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries.map_err(failed())?.map(|e| Ok(e.map_err(failed())?.path())).collect(),
        }
    }
}

/// Whether this is a checkpoint's folder, or one that was being written.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let whole = name.strip_prefix('.').and_then(|n| n.strip_suffix(".partial")).unwrap_or(&name);
    step_of(whole).is_some()
}

/// The step that a checkpoint's folder is named after.
fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.trim_end_matches(SCORED).parse().ok()
}

fn sound(path: &Path) -> Result<Marker, CheckpointError> {
    let marker = Marker::read(path)?;
    marker.verify(path)?;
    Ok(marker)
}

/// Removes a checkpoint: the marker first, so that a half-removed one is known as incomplete.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    let marker = path.join(super::MARKER);
    let failed = |path: &Path| CheckpointError::io(path, "remove it");
    if marker.exists() {
        disk.remove_file(&marker).map_err(failed(&marker))?;
        disk.sync_folder(path).map_err(failed(path))?;
    }
    disk.remove_folder(path).map_err(failed(path))
}
