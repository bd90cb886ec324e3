use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::setup::config_value;
use super::{Learner, Outcome, Progress, TrainConfig, TrainError};
use crate::checkpoint::{
    Better, Checkpoints, Companion, Keep, LocalDisk, ModelFolder, Named, Save, SavedState, Scan, State,
};
use crate::evaluation::{Comparison, PreparedPair, Reading};
use crate::preference::PreferencePair;
use crate::qwen3::Model;
use crate::report::{Fact, MetricsLog, Notice, Origin, Row, Start, read_rows};
use crate::tokenizer::{Message, TokenizerFiles};

const CONFIG: &str = "config.toml";
const CHECKPOINTS: &str = "checkpoints";
const SAMPLES: &str = "samples.jsonl";

/// The folder of one run: resolved configuration, metrics, checkpoints, samples.
pub struct RunFolder {
    path: PathBuf,
    checkpoints: Checkpoints,
    companions: Vec<Companion>,
    metrics: Option<MetricsLog>,
    config: String,
}

/// What a checkpoint keeps beside tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    /// Version of the weights.
    version: u64,
    progress: Progress,
    /// The resolved configuration.
    config: String,
}

impl RunFolder {
    /// The run folder `path` with this configuration; a new one must be empty or absent.
    ///
    /// # Errors
    /// When it can't be written, holds another run, or, where it is resumed, another configuration.
    pub fn open(
        path: &Path,
        config: &TrainConfig,
        files: &TokenizerFiles,
        resume: Resume,
    ) -> Result<Self, TrainError> {
        let folder = |reason: String| TrainError::Folder { path: path.to_owned(), reason };
        let text = toml::to_string(config).map_err(|e| folder(e.to_string()))?;
        let at = path.join(CONFIG);
        match (fs::read_to_string(&at), resume) {
            (Ok(_), Resume::No) => {
                return Err(folder("holds a run; give another --out, or go on with --resume".into()));
            }
            (Ok(old), Resume::Yes) if old != text => {
                let reason = format!("was begun with another configuration:\n{}", difference(&old, &text));
                return Err(folder(reason));
            }
            (Err(_), Resume::Yes) => return Err(folder(format!("holds no {CONFIG}: nothing to resume"))),
            (Ok(_), Resume::Yes) => {}
            (Err(_), Resume::No) => {
                fs::create_dir_all(path)
                    .and_then(|()| fs::write(&at, &text))
                    .map_err(|e| folder(e.to_string()))?;
            }
        }
        let keep = Keep { last: config.checkpoint.keep.max(1), better: Better::Higher };
        let companions = files
            .iter()
            .filter(|(name, _)| *name != "config.json")
            .map(|(name, bytes)| Companion { name: name.to_owned(), bytes: bytes.to_vec() })
            .collect();
        let checkpoints = Checkpoints::new(path.join(CHECKPOINTS), keep);
        Ok(Self { path: path.to_owned(), checkpoints, companions, metrics: None, config: text })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the metrics: from the start, or after the step that the checkpoint holds.
    ///
    /// # Errors
    /// When a file can't be made or cut back.
    pub fn start_metrics(&mut self, origin: &Origin, progress: &Progress) -> Result<(), TrainError> {
        let start = if progress.step == 0 { Start::Fresh } else { Start::After(progress.step) };
        self.metrics = Some(MetricsLog::open(&self.path, origin, start)?);
        Ok(())
    }

    /// Records a row; what comes back is for the person at the terminal.
    pub fn record(&mut self, row: &Row) -> Vec<String> {
        let notices = self.metrics.as_mut().map(|metrics| metrics.row(row)).unwrap_or_default();
        notices.iter().map(Notice::to_string).collect()
    }

    /// Saves a checkpoint; older ones beyond those to keep are removed.
    ///
    /// # Errors
    /// When the disk fails; older checkpoints are still there.
    pub fn save(
        &self,
        learner: &Learner,
        reference: Option<&Model>,
        progress: &Progress,
        score: Option<f64>,
    ) -> Result<(), TrainError> {
        let config = config_value(&learner.model);
        let weights = named(&learner.model);
        let facts =
            Facts { version: learner.version, progress: progress.clone(), config: self.config.clone() };
        let facts = serde_json::to_value(&facts).expect("facts are plain data");
        let mut tensors: Vec<Named<'_>> =
            learner.state().map(|(name, tensor)| Named { name, tensor: tensor.view() }).collect();
        tensors.extend(
            reference
                .iter()
                .flat_map(|model| named(model))
                .map(|Named { name, tensor }| Named { name: format!("{REFERENCE}{name}"), tensor }),
        );
        let state = State { step: progress.step, score, facts: &facts, tensors: &tensors };
        let save = Save { companions: &self.companions, state: Some(state), ..Save::new(&config, &weights) };
        self.checkpoints.save(&LocalDisk, &save)?;
        Ok(())
    }

    /// Reads the newest sound checkpoint back; none: the run has to begin anew.
    ///
    /// # Errors
    /// When it does not fit the model.
    pub fn load(
        &self,
        learner: &mut Learner,
        reference: Option<&mut Model>,
    ) -> Result<Option<Progress>, TrainError> {
        let Some(found) = self.checkpoints.newest()? else { return Ok(None) };
        let (folder, state) = (ModelFolder::open(&found.path)?, SavedState::open(&found.path)?);
        for (id, tensor) in learner.model.params.iter_mut() {
            folder.read(&id.name(), tensor.view_mut(), Scan::Skip)?;
        }
        for (name, tensor) in learner.state_mut() {
            state.read(&name, tensor.view_mut())?;
        }
        for (id, tensor) in reference.into_iter().flat_map(|model| model.params.iter_mut()) {
            state.read(&format!("{REFERENCE}{}", id.name()), tensor.view_mut())?;
        }
        let facts: Facts = state.facts()?;
        learner.version = facts.version;
        Ok(Some(facts.progress))
    }

    /// Weights of the best checkpoint by its validation accuracy into `learner`; says which step it was.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn load_best(&self, learner: &mut Learner) -> Result<Option<u64>, TrainError> {
        let Some((path, marker)) = self.checkpoints.best()? else { return Ok(None) };
        let folder = ModelFolder::open(&path)?;
        for (id, tensor) in learner.model.params.iter_mut() {
            folder.read(&id.name(), tensor.view_mut(), Scan::Skip)?;
        }
        Ok(Some(marker.step))
    }

    /// Writes the weights as a Hugging Face folder `model/`, in place of an older one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn export(&self, model: &Model) -> Result<PathBuf, TrainError> {
        let target = self.path.join("model");
        if target.exists() {
            fs::remove_dir_all(&target)
                .map_err(|e| TrainError::Folder { path: target.clone(), reason: e.to_string() })?;
        }
        let (config, weights) = (config_value(model), named(model));
        Save { companions: &self.companions, ..Save::new(&config, &weights) }.write(&LocalDisk, &target)?;
        Ok(target)
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
        let judged = pairs.iter().zip(&comparison.readings).take(count);
        samples.extend(judged.map(|(prepared, readings)| JudgedSample::of(when, &prepared.pair, readings)));
        let line = |sample| serde_json::to_string(sample).expect("a sample is plain data") + "\n";
        let at = self.path.join(SAMPLES);
        fs::write(&at, samples.iter().map(line).collect::<String>())
            .map_err(|e| TrainError::Folder { path: at, reason: e.to_string() })
    }

    /// Writes `provenance.json`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn keep_provenance(&self, facts: &[Fact]) -> Result<(), TrainError> {
        self.write("provenance.json", facts)
    }

    /// Writes `result.json` and the page `report.html`.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn keep_outcome(&self, outcome: &Outcome, provenance: Vec<Fact>) -> Result<(), TrainError> {
        self.write("result.json", outcome)?;
        let rows = read_rows(&self.path.join("metrics.jsonl")).map_err(|e| self.fault(e.to_string()))?;
        let page = outcome.page(&self.config, provenance, &self.samples()?, rows);
        page.save(&self.path).map_err(|e| self.fault(e.to_string()))
    }

    fn write(&self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(value).expect("plain data");
        fs::write(self.path.join(name), text + "\n").map_err(|e| self.fault(format!("{name}: {e}")))
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

/// When a sample was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// After the cold start.
    Before,
    /// After reinforcement learning.
    After,
}

/// A pair with what the judge wrote of its two sides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JudgedSample {
    /// When.
    pub when: When,
    /// The pair's id.
    pub id: String,
    /// Its task.
    pub task: String,
    /// Its conversation.
    pub messages: Vec<Message>,
    /// The preferred response.
    pub chosen: JudgedResponse,
    /// The other one.
    pub rejected: JudgedResponse,
}

/// A response with its judgement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JudgedResponse {
    /// The response.
    pub response: String,
    /// What the judge wrote.
    pub judgement: String,
    /// The score, where there is one.
    pub score: Option<f64>,
    /// Why there is none.
    pub failure: Option<String>,
}

impl JudgedSample {
    /// The first judgement of each side.
    fn of(when: When, pair: &PreferencePair, [chosen, rejected]: &[Vec<Reading>; 2]) -> Self {
        let side = |response: &str, reading: &Reading| JudgedResponse {
            response: response.to_owned(),
            judgement: reading.text.clone(),
            score: reading.judgement().score().map(|score| score.value()),
            failure: reading.verdict.as_ref().err().map(ToString::to_string),
        };
        Self {
            when,
            id: pair.id.clone(),
            task: pair.task.clone(),
            messages: pair.messages.clone(),
            chosen: side(&pair.chosen, &chosen[0]),
            rejected: side(&pair.rejected, &rejected[0]),
        }
    }
}

const REFERENCE: &str = "reference.";

/// Whether a run begins or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It goes on where its newest checkpoint stands.
    Yes,
    /// It begins.
    No,
}

fn named(model: &Model) -> Vec<Named<'_>> {
    model.params.iter().map(|(id, tensor)| Named { name: id.name(), tensor: tensor.view() }).collect()
}

/// Lines that stand in one text only.
fn difference(old: &str, new: &str) -> String {
    let gone = old.lines().filter(|line| !new.lines().any(|l| l == *line)).map(|line| format!("- {line}"));
    let come = new.lines().filter(|line| !old.lines().any(|l| l == *line)).map(|line| format!("+ {line}"));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}
