mod difference;
mod lock;
mod rollouts;
mod samples;
mod saving;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{CheckpointConfig, LeftOut, Observer, Outcome, Progress, TrainConfig, TrainError};
use crate::checkpoint::{Better, Checkpoints, Companion, Disk, Keep, LocalDisk};
use crate::evaluation::{Comparison, PreparedPair};
use crate::report::{Fact, MetricNames, MetricsLog, Notice, Origin, Row, Start, read_rows};
use crate::tokenizer::TokenizerFiles;
use difference::{Difference, refusal};
use lock::RunLock;

pub use difference::Allowed;
pub use samples::{JudgedResponse, JudgedSample, When};
pub use saving::Standing;

const CONFIG: &str = "config.toml";
const CHECKPOINTS: &str = "checkpoints";
const METRICS: &str = "metrics.jsonl";
const SAMPLES: &str = "samples.jsonl";

/// The folder of one run: resolved configuration, metrics, checkpoints, samples.
pub struct RunFolder {
    path: PathBuf,
    checkpoints: Checkpoints,
    disk: Box<dyn Disk + Send>,
    companions: Vec<Companion>,
    /// Hash of the pairs.
    data: Option<String>,
    /// The model that an adapter is an addition to, as it was named.
    base: Option<String>,
    metrics: Option<MetricsLog>,
    config: String,
    retries: CheckpointConfig,
    names: MetricNames,
    allowed: Allowed,
    who: Origin,
    _lock: RunLock,
}

impl RunFolder {
    /// Claims the run folder `path` for this configuration; a new one may hold no run. Nothing has to be read before: this comes
    /// first, so that a folder in use is known at once and a run that is stopped while it loads can be resumed.
    ///
    /// # Errors
    /// When another process has it, it can't be written, it holds another run, or, where it is resumed, another configuration.
    pub fn open(path: &Path, config: &TrainConfig, resume: Resume, who: &Origin) -> Result<Self, TrainError> {
        let fault = |reason: String| TrainError::Folder { path: path.to_owned(), reason };
        let lock = RunLock::take(path, who)?;
        let text = toml::to_string(config).map_err(|e| fault(e.to_string()))?;
        let at = path.join(CONFIG);
        let old = fs::read_to_string(&at).ok();
        let allowed = match (resume, &old) {
            (Resume::No, _) if path.join(METRICS).exists() || path.join(CHECKPOINTS).exists() => {
                return Err(fault("holds a run; give another --out, or go on with --resume".into()));
            }
            (Resume::Yes(_), None) => return Err(fault(format!("holds no {CONFIG}: nothing to resume"))),
            (Resume::Yes(allowed), Some(old)) => {
                let found = Difference::between(old, config).map_err(|e| fault(format!("{CONFIG}: {e}")))?;
                if let Some(differences) = refusal(&found, &allowed) {
                    return Err(TrainError::Changed { path: path.to_owned(), differences });
                }
                Some(allowed)
            }
            (Resume::No, _) => None,
        };
        if allowed.is_none() {
            put(&at, &text).map_err(|e| fault(format!("{CONFIG}: {e}")))?;
        }
        let keep = Keep { last: config.checkpoint.keep.max(1), better: Better::Higher };
        Ok(Self {
            path: path.to_owned(),
            checkpoints: Checkpoints::new(path.join(CHECKPOINTS), keep),
            disk: Box::new(LocalDisk),
            companions: Vec::new(),
            data: None,
            base: config.model.path.as_ref().map(|path| path.display().to_string()),
            metrics: None,
            config: text,
            retries: config.checkpoint.clone(),
            names: config.report.metric_names,
            allowed: allowed.unwrap_or_default(),
            who: who.clone(),
            _lock: lock,
        })
    }

    /// What travels with every checkpoint: the tokenizer's files, and the hash of the data.
    #[must_use]
    pub fn with_setup(mut self, files: &TokenizerFiles, data_hash: &str) -> Self {
        let files = files.iter().filter(|(name, _)| *name != "config.json");
        self.companions =
            files.map(|(name, bytes)| Companion { name: name.to_owned(), bytes: bytes.to_vec() }).collect();
        self.data = Some(data_hash.to_owned());
        self
    }

    /// Saves to another disk than the machine's own.
    #[must_use]
    pub fn on_disk(mut self, disk: Box<dyn Disk + Send>) -> Self {
        self.disk = disk;
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the metrics: from the start, or after the step that the checkpoint holds.
    ///
    /// # Errors
    /// When a file can't be made or cut back.
    pub fn start_metrics(&mut self, progress: &Progress) -> Result<(), TrainError> {
        let at = self.path.join(CONFIG);
        put(&at, &self.config).map_err(|e| self.fault(format!("{CONFIG}: {e}")))?; // with what was allowed to differ
        let start = if progress.step == 0 { Start::Fresh } else { Start::After(progress.step) };
        self.metrics = Some(MetricsLog::open(&self.path, &self.who, start, self.names)?);
        Ok(())
    }

    /// Records a row; what comes back is for the person at the terminal.
    pub fn record(&mut self, row: &Row) -> Vec<String> {
        let notices = self.metrics.as_mut().map(|metrics| metrics.row(row)).unwrap_or_default();
        notices.iter().map(Notice::to_string).collect()
    }

    /// Writes the first `count` pairs' judgements to `samples.jsonl`, beside those of other times.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn keep_samples(
        &self,
        when: When,
        pairs: &[PreparedPair],
        comparison: &Comparison,
        count: usize,
    ) -> Result<(), TrainError> {
        let mut samples = self.samples()?;
        samples.retain(|sample| sample.when != when);
        let judged = pairs.iter().enumerate().take(count);
        samples.extend(
            judged.map(|(i, prepared)| JudgedSample::of(when, &prepared.pair, (&comparison.readings, i))),
        );
        let line = |sample| serde_json::to_string(sample).expect("a sample is plain data") + "\n";
        let at = self.path.join(SAMPLES);
        put(&at, &samples.iter().map(line).collect::<String>())
            .map_err(|e| TrainError::Folder { path: at, reason: e.to_string() })
    }

    /// Writes `provenance.json`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn keep_provenance(&self, facts: &[Fact]) -> Result<(), TrainError> {
        self.write("provenance.json", facts)
    }

    /// Writes `result.json` and the page `report.html`; without its curves where the metrics can't be read back.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn keep_outcome(
        &self,
        outcome: &Outcome,
        provenance: Vec<Fact>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.write("result.json", outcome)?;
        let mut missing = |what: String| observer.notice(&format!("{what}: the report goes without it"));
        let rows =
            read_rows(&self.path.join(METRICS)).map_err(|e| missing(e.to_string())).unwrap_or_default();
        let samples = self.samples().map_err(|e| missing(e.to_string())).unwrap_or_default();
        let page = outcome.page(&self.config, provenance, &samples, rows);
        page.save(&self.path).map_err(|e| self.fault(e.to_string()))
    }

    /// Writes a batch whose update was left out: `left_out/step-00000012.json` says why, the `.jsonl` beside it holds it.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn keep_left_out(&self, left_out: &LeftOut<'_>) -> Result<PathBuf, TrainError> {
        let folder = self.path.join("left_out");
        let at = folder.join(format!("step-{:08}.jsonl", left_out.step));
        let facts = serde_json::to_string_pretty(left_out).expect("plain data") + "\n";
        fs::create_dir_all(&folder)
            .and_then(|()| put(&at, &left_out.batch.lines()))
            .and_then(|()| put(&at.with_extension("json"), &facts))
            .map_err(|e| TrainError::Folder { path: at.clone(), reason: e.to_string() })?;
        Ok(at)
    }

    fn write(&self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(value).expect("plain data");
        put(&self.path.join(name), &(text + "\n")).map_err(|e| self.fault(format!("{name}: {e}")))
    }

    fn fault(&self, reason: String) -> TrainError {
        TrainError::Folder { path: self.path.clone(), reason }
    }

    /// The judgements kept so far.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn samples(&self) -> Result<Vec<JudgedSample>, TrainError> {
        let at = self.path.join(SAMPLES);
        let text = fs::read_to_string(&at).unwrap_or_default();
        let read = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        read.map_err(|e| TrainError::Folder { path: at, reason: e.to_string() })
    }
}

/// Whether a run begins or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It goes on where its newest checkpoint stands, with these differences from how it was begun.
    Yes(Allowed),
    /// It begins.
    No,
}

/// Through a neighbour and a rename: a process that is ended in the midst of it leaves the old text or the new one.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("part");
    fs::write(&beside, text).and_then(|()| fs::rename(&beside, path))
}

/// Makes way for a folder that is written anew.
fn remade(target: &Path) -> Result<(), TrainError> {
    let fault = |e: std::io::Error| TrainError::Folder { path: target.to_owned(), reason: e.to_string() };
    if target.exists() { fs::remove_dir_all(target).map_err(fault) } else { Ok(()) }
}
