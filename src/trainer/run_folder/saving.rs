use serde::{Deserialize, Serialize};

use super::difference::{Difference, refusal};
use super::{RunFolder, remade};
use crate::checkpoint::{CheckpointError, Layout, Named, Save, SavedState, State};
use crate::device::DeviceError;
use crate::qwen3::Model;
use crate::trainer::{Learner, Observer, Progress, TrainError};

/// Processes that share a run's work.
const WORLD: u32 = 1;

/// What a checkpoint keeps beside tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    /// Version of the weights.
    version: u64,
    progress: Progress,
    /// The resolved configuration.
    config: String,
    /// Hash of all pairs. Programs before 0.2 did not write it down; nor the next two.
    #[serde(default)]
    data: Option<String>,
    /// Hash of the weights that an adapter adds to; none where every weight learns.
    #[serde(default)]
    base: Option<String>,
    /// Processes that share the work.
    #[serde(default)]
    world: Option<u32>,
    /// Version of this program.
    #[serde(default)]
    program: Option<String>,
}

/// A run as it stands between two steps: what a checkpoint holds.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Weights, moments, master copy, reference.
    pub learner: &'a Learner,
    /// Counters.
    pub progress: &'a Progress,
    /// Validation accuracy of these weights, where it was measured.
    pub score: Option<f64>,
}

impl RunFolder {
    /// Saves a checkpoint; older ones beyond those to keep are removed. Where the disk refuses, the run pauses and tries again,
    /// waiting twice as long each time (`checkpoint.retries`, `checkpoint.retry_seconds`).
    ///
    /// # Errors
    /// When the disk still refuses at the end; older checkpoints are still there.
    pub fn save(&self, standing: Standing<'_>, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let mut wait = self.retries.retry_seconds;
        for left in (0..self.retries.retries).rev() {
            match self.try_save(standing, observer) {
                Err(TrainError::Checkpoint(error)) if error.is_of_the_disk() && !observer.wants_stop() => {
                    observer.notice(&format!(
                        "{error}; the run pauses, and saves again in {wait} s (then {left} times more)"
                    ));
                    observer.wait(wait);
                    wait *= 2.0;
                }
                ended => return ended,
            }
        }
        self.try_save(standing, observer)
    }

    fn try_save(&self, standing: Standing<'_>, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let saved = self.with_save(standing, |save| self.checkpoints.save(self.disk.as_ref(), save))??;
        if let Err(why) = saved.pruned {
            observer.notice(&format!("{why}: an old checkpoint stays for now"));
        }
        Ok(())
    }

    /// Looks whether the disk has room: for one checkpoint, or the run does not start; for all that are kept, or it is said.
    ///
    /// # Errors
    /// When not even one checkpoint fits.
    pub fn check_room(&self, standing: Standing<'_>, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let needed = self.with_save(standing, |save| save.bytes())?;
        let room = self.checkpoints.room(self.disk.as_ref(), needed)?;
        let all = needed * (self.checkpoints.keep().last as u64 + 2); // the best one, and the one being written
        if room < all {
            observer.notice(&format!(
                "{}: {room} bytes are free; checkpoints of {needed} bytes will take up to {all}",
                self.path.display()
            ));
        }
        Ok(())
    }

    fn with_save<T>(&self, standing: Standing<'_>, f: impl FnOnce(&Save<'_>) -> T) -> Result<T, DeviceError> {
        let Standing { learner, progress, score } = standing;
        let (layout, config) = learner.model.described(self.base.as_deref());
        let weights = learner.model.learns().named();
        let facts = Facts {
            version: learner.version,
            progress: progress.clone(),
            config: self.config.clone(),
            data: self.data.clone(),
            base: learner.base()?.map(str::to_owned),
            world: Some(WORLD),
            program: Some(env!("CARGO_PKG_VERSION").into()),
        };
        let facts = serde_json::to_value(&facts).expect("facts are plain data");
        let tensors: Vec<Named<'_>> =
            learner.state().map(|(name, tensor)| Named { name, tensor: tensor.view() }).collect();
        let state = State { step: progress.step, score, facts: &facts, tensors: &tensors };
        let save = Save::new(&config, &weights);
        Ok(f(&Save { layout, companions: &self.companions, state: Some(state), ..save }))
    }

    /// Reads the newest sound checkpoint back, with what was passed over on the way to it; none: the run has to begin anew.
    ///
    /// # Errors
    /// When it does not fit the model, or was made with other data, by another number of processes or another version.
    pub fn load(
        &self,
        learner: &mut Learner,
        observer: &mut dyn Observer,
    ) -> Result<Option<Progress>, TrainError> {
        let Some(found) = self.checkpoints.newest()? else { return Ok(None) };
        for why in &found.passed_over {
            observer.notice(&format!("passed over a newer checkpoint: {why}"));
        }
        let state = SavedState::open(&found.path)?;
        let facts: Facts = state.facts()?;
        self.check_facts(&facts, learner.base()?)?;
        learner.model.read_back(&found.path)?;
        for (name, tensor) in learner.state_mut() {
            state.read(&name, tensor.view_mut())?;
        }
        learner.version = facts.version;
        Ok(Some(facts.progress))
    }

    fn check_facts(&self, facts: &Facts, base: Option<&str>) -> Result<(), TrainError> {
        let world = facts.world.map(|world| world.to_string());
        let found = [
            Difference::of("base", facts.base.as_deref(), base.unwrap_or_default()),
            Difference::of("data", facts.data.as_deref(), self.data.as_deref().unwrap_or_default()),
            Difference::of("world", world.as_deref(), &WORLD.to_string()),
            Difference::of("program", facts.program.as_deref(), env!("CARGO_PKG_VERSION")),
        ];
        let found: Vec<Difference> = found.into_iter().flatten().collect();
        match refusal(&found, &self.allowed) {
            Some(differences) => Err(TrainError::Changed { path: self.path.clone(), differences }),
            None => Ok(()),
        }
    }

    /// Weights of the best checkpoint by its validation accuracy into `learner`; says which step it was.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn load_best(&self, learner: &mut Learner) -> Result<Option<u64>, TrainError> {
        let Some((path, marker)) = self.checkpoints.best()? else { return Ok(None) };
        learner.model.read_back(&path)?;
        Ok(Some(marker.step))
    }

    /// Writes what learned in place of an older one: the weights as a Hugging Face folder `model/`, or an adapter as peft's `adapter/`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn export(&self, model: &Model) -> Result<std::path::PathBuf, TrainError> {
        let (layout, config) = model.described(self.base.as_deref());
        let target = self.path.join(if layout == Layout::Model { "model" } else { "adapter" });
        remade(&target)?;
        let weights = model.learns().named();
        Save { layout, companions: &self.companions, ..Save::new(&config, &weights) }
            .write(self.disk.as_ref(), &target)?;
        Ok(target)
    }
}

impl CheckpointError {
    /// Whether the disk refused and may not refuse for ever.
    fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::NoRoom { .. })
    }
}
