use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::json_lines::{RowError, read_rows};
use super::metrics::Row;
use super::statistics::Estimate;
use super::unit::Unit;

/// Everything the page of one run shows. The trainer fills it, saves it as `report.json`, and renders it; with
/// `metrics.jsonl` beside it, the page can be made again from the run folder alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// What was run, in a few words.
    pub title: String,
    /// One or two sentences: what happened, on what machine, from which seed.
    pub summary: String,
    /// What the run raised alarms about: where, and the sentence.
    #[serde(default)]
    pub alarms: Vec<Fact>,
    /// The few numbers that matter most, the first one largest.
    pub headline: Vec<Headline>,
    /// Accuracy on the validation pairs over the run: overall first, then each task.
    pub accuracy: Vec<AccuracyCurve>,
    /// Simple judges, on the same held-out pairs.
    pub nulls: Vec<NullJudge>,
    /// Before and after, row by row: accuracy, ties, failures by kind.
    pub comparison: Vec<Comparison>,
    /// Where scores landed, evaluation by evaluation.
    pub scores: ScoreHistory,
    /// Judgements to read.
    pub samples: Vec<Sample>,
    /// The resolved configuration, as it would be typed.
    pub config: String,
    /// Where the run came from: commit, binary, data, machine, load.
    pub provenance: Vec<Fact>,
    /// One row a step; lives in `metrics.jsonl`.
    #[serde(skip)]
    pub rows: Vec<Row>,
}

/// One large number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Headline {
    /// What it is.
    pub label: String,
    /// The number.
    pub value: f64,
    /// How it is written.
    pub unit: Unit,
    /// Its 95 % interval, low and high, where there is one.
    pub interval: Option<(f64, f64)>,
    /// A few words under it, such as the value before.
    pub note: String,
}

/// Accuracy on one set of pairs over the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyCurve {
    /// `overall`, or the task's name.
    pub name: String,
    /// Evaluations in the order of their steps; the first is the one before training.
    pub points: Vec<AccuracyPoint>,
}

/// One evaluation of one curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyPoint {
    /// Step after which it was measured.
    pub step: u64,
    /// Share of pairs in which chosen scored higher, ties half, with its interval.
    pub accuracy: Estimate,
}

/// A simple judge: it reads nothing, or only counts words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NullJudge {
    /// Its rule, such as `longest`.
    pub name: String,
    /// Accuracy over all held-out pairs.
    pub overall: Estimate,
    /// Accuracy a task, named as the curves are.
    pub tasks: Vec<(String, Estimate)>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither is.
    #[default]
    Neither,
}

/// One quantity before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// What it is.
    pub label: String,
    /// How it is written.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// Before training.
    pub before: Option<Estimate>,
    /// After training.
    pub after: Option<Estimate>,
    /// The difference over the same pairs, where it was measured.
    pub change: Option<Estimate>,
}

/// Histograms of the scores over the run, on one set of bins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreHistory {
    /// Ends of the bins, ascending, one more than there are bins.
    pub edges: Vec<f64>,
    /// One a evaluation, in the order of their steps.
    pub snapshots: Vec<ScoreSnapshot>,
}

/// How many judgements of each side landed in each bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreSnapshot {
    /// Step after which it was counted.
    pub step: u64,
    /// Counts of chosen responses, one a bin.
    pub chosen: Vec<u64>,
    /// Counts of rejected responses, one a bin.
    pub rejected: Vec<u64>,
}

/// One held-out pair with what the judge said of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The pair's task.
    pub task: String,
    /// The conversation, as text.
    pub prompt: String,
    /// The preferred response.
    pub chosen: Answer,
    /// The other one.
    pub rejected: Answer,
}

/// One response and its judgements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The response.
    pub text: String,
    /// What the judge wrote before training.
    pub before: Option<Judgement>,
    /// What it wrote after.
    pub after: Option<Judgement>,
}

/// What a judge wrote and what could be read out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The whole text.
    pub text: String,
    /// Its score, or why it has none.
    pub outcome: Outcome,
}

/// A score or a named failure; never a number in place of a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The score that was read.
    Score(f64),
    /// The kind of failure, such as `missing tag`.
    Failure(String),
}

/// One line of provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Fact {
    /// A line of provenance.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// A report could not be saved or read back.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `report.json` is not a report.
    #[error("{path}: {source}; it is written by `patarm train` and not meant to be edited")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// `metrics.jsonl` is broken.
    #[error(transparent)]
    Rows(#[from] RowError),
}

impl RunReport {
    /// Writes `report.json` and `report.html` into the run folder; `metrics.jsonl` is there already.
    ///
    /// # Errors
    /// `File` where a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), ReportError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|source| ReportError::Json { path: folder.join("report.json"), source })?;
        write(folder.join("report.json"), &json)?;
        write(folder.join("report.html"), self.page().as_bytes())
    }

    /// Reads a run folder back: `report.json` and `metrics.jsonl`.
    ///
    /// # Errors
    /// `File` where one cannot be read, `Json` or `Rows` where one is broken.
    pub fn load(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("report.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(source) => return Err(ReportError::File { path, source }),
        };
        let report: Self =
            serde_json::from_slice(&text).map_err(|source| ReportError::Json { path, source })?;
        Ok(Self { rows: read_rows(&folder.join("metrics.jsonl"))?, ..report })
    }
}

/// Through a neighbour and a rename: a page that is open in a browser is never half a page.
fn write(path: PathBuf, bytes: &[u8]) -> Result<(), ReportError> {
    let beside = path.with_extension("part");
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, &path));
    written.map_err(|source| ReportError::File { path, source })
}
