mod appraisal;
mod heed;
mod steps;

pub use appraisal::HeldOutRun;

use super::learner::{Learner, Pass};
use super::progress::{Clock, Observer, Phase, Progress};
use super::run_folder::{RunFolder, Standing, When};
use super::{Alarm, AlarmAction, Baseline, Plan, Setup, Stop, TrainConfig, TrainError, memory, step};
use crate::device::{Stream, range};
use crate::qwen3::Model;
use crate::tensor::{Arena, ArenaError};

/// A training run: cold start, reinforcement learning, evaluation, checkpoints.
#[derive(Debug)]
pub struct Run<'a> {
    config: TrainConfig,
    setup: &'a Setup,
    plan: Plan,
    learner: Learner,
    memory: Arena,
    progress: Progress,
    clock: Clock,
    started: f64,
    /// Step of the newest checkpoint.
    saved: Option<u64>,
}

impl<'a> Run<'a> {
    /// Plans and carves all memory, and loads or draws the weights.
    ///
    /// # Errors
    /// When the model can't be loaded, or the memory does not suffice.
    pub fn new(
        config: &TrainConfig,
        setup: &'a Setup,
        stream: Stream,
        clock: Clock,
    ) -> Result<Self, TrainError> {
        let mut config = config.clone();
        let ([mut model, memory], plan) = memory::take(&mut config, setup, &stream)?;
        let mut learner = learner(&config, setup, stream, &mut model)?;
        match &setup.folder {
            Some(folder) => learner.model.read(folder, config.model.scan)?,
            None => learner.model.initialise(&learner.stream, config.seed)?,
        }
        config.fill_adapter(&mut learner.model, &learner.stream)?;
        learner.refresh_master()?;
        let (progress, started) = (Progress::default(), (clock.0)());
        Ok(Self { config, setup, plan, learner, memory, progress, clock, started, saved: None })
    }

    /// The memory that it took.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Where it stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The weights.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// Steps of both phases.
    pub fn total_steps(&self) -> u64 {
        self.config.sft.steps + self.config.rl.steps
    }

    /// Goes on where a checkpoint of this run stopped.
    ///
    /// # Errors
    /// When the checkpoint does not fit the configuration.
    pub fn restore(&mut self, folder: &RunFolder, observer: &mut dyn Observer) -> Result<bool, TrainError> {
        let Some(progress) = folder.load(&mut self.learner, observer)? else {
            return Ok(false);
        };
        self.started -= progress.seconds;
        self.saved = Some(progress.step);
        self.progress = progress;
        Ok(true)
    }

    /// Runs until all steps are done. Where the observer wants an end before, whatever the run is about, what is done is saved.
    ///
    /// # Errors
    /// What ended the run before its time, `Stopped` among it; the last checkpoint stays.
    pub fn train(&mut self, folder: &mut RunFolder, observer: &mut dyn Observer) -> Result<(), TrainError> {
        folder.check_room(self.standing(None), observer)?;
        let ended = self.advance(folder, observer);
        if matches!(ended, Err(TrainError::Stopped | TrainError::Paused)) {
            self.save(folder, observer)?;
        }
        ended
    }

    fn advance(&mut self, folder: &mut RunFolder, observer: &mut dyn Observer) -> Result<(), TrainError> {
        loop {
            self.evaluate_and_save(folder, observer)?;
            if self.progress.step == self.total_steps() {
                return Ok(());
            }
            Stop::of(observer).check()?;
            if self.progress.step == self.config.sft.steps && self.progress.before.is_none() {
                self.begin_reinforcement(folder, observer)?;
            }
            let gate = self.progress.seen.gate(&self.config.guard);
            observer.begins(self.progress.step + 1);
            let learning = (gate, Stop::of(observer));
            let step = range(format_args!("step {}", self.progress.step + 1));
            let mut stepped = match self.phase() {
                Phase::Sft => self.supervised(learning)?,
                Phase::Rl => self.reinforce(learning)?,
                Phase::BradleyTerry => self.compare_rewards(learning)?,
            };
            drop(step);
            self.progress.seconds = (self.clock.0)() - self.started;
            self.keep_rollouts(&stepped, folder, observer);
            let heeded = self.heed(&mut stepped, gate, (folder, observer));
            folder.record(&stepped.row).iter().for_each(|notice| observer.notice(notice));
            observer.stepped(&self.progress, &stepped.row);
            heeded?;
            let alarms = self.progress.watch.step(&self.config.alarms, &stepped.row);
            self.tell(&alarms, observer)?;
        }
    }

    fn phase(&self) -> Phase {
        match self.config.rl.baseline {
            _ if self.progress.step < self.config.sft.steps => Phase::Sft,
            None => Phase::Rl,
            Some(Baseline::BradleyTerry) => Phase::BradleyTerry,
        }
    }

    /// Between the phases: the model is judged, becomes the reference, and its optimizer starts anew. A run that is stopped in
    /// here does all of it again.
    fn begin_reinforcement(
        &mut self,
        folder: &mut RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.learner.reset_moments()?;
        self.progress.seen.begin_anew();
        self.learner.renew_reference()?;
        let before = self.held_out(Stop::of(observer))?;
        observer.evaluated("held-out", &before.evaluated);
        self.keep_samples((folder, observer), When::Before, &before);
        self.validate(observer)?;
        self.progress.before = Some(before.evaluated);
        self.progress.before_credits = before.credits;
        Ok(())
    }

    /// What is due after a step, and what a run that was stopped over it still owes.
    fn evaluate_and_save(
        &mut self,
        folder: &mut RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let (step, last) = (self.progress.step, self.progress.step == self.total_steps());
        if self.is_validation_due(last) {
            if self.progress.curve.last().is_none_or(|validated| validated.step < step) {
                let score = self.validate(observer)?;
                self.check_finite()?;
                let newest = self.progress.curve.last();
                let alarm = newest.and_then(|e| self.progress.watch.evaluated(&self.config.alarms, e));
                folder.save(self.standing(Some(score)), observer)?;
                self.saved = Some(step);
                self.tell(alarm.as_slice(), observer)?;
            }
        } else if step > 0 && (step.is_multiple_of(self.config.checkpoint.every.max(1)) || last) {
            self.save(folder, observer)?;
        }
        Ok(())
    }

    fn is_validation_due(&self, last: bool) -> bool {
        let learned = self.progress.step.checked_sub(self.config.sft.steps).filter(|learned| *learned > 0);
        learned.is_some_and(|learned| last || learned.is_multiple_of(self.config.evaluation.every.max(1)))
    }

    /// Says what went wrong, and ends the run where that is set.
    fn tell(&self, alarms: &[Alarm], observer: &mut dyn Observer) -> Result<(), TrainError> {
        alarms
            .iter()
            .for_each(|Alarm { step, text, .. }| observer.notice(&format!("alarm, step {step}: {text}")));
        match self.config.alarms.action {
            AlarmAction::Pause if !alarms.is_empty() => Err(TrainError::Paused),
            AlarmAction::Pause | AlarmAction::Tell => Ok(()),
        }
    }

    /// Saves the run as it stands, unless a checkpoint of this step is there.
    fn save(&mut self, folder: &RunFolder, observer: &mut dyn Observer) -> Result<(), TrainError> {
        if self.saved != Some(self.progress.step) {
            self.check_finite()?;
            folder.save(self.standing(None), observer)?;
            self.saved = Some(self.progress.step);
        }
        Ok(())
    }

    fn standing(&self, score: Option<f64>) -> Standing<'_> {
        Standing { learner: &self.learner, progress: &self.progress, score }
    }
}

/// The model that learns, with a reference where a KL term asks for one: at first the weights before reinforcement learning.
fn learner(
    config: &TrainConfig,
    setup: &Setup,
    stream: Stream,
    arena: &mut Arena,
) -> Result<Learner, ArenaError> {
    let dtype = config.model.dtype.storage();
    let model = Model::new(setup.model.clone(), dtype, setup.positions(config), arena)?;
    let learner = Learner::new(stream, model, config.kept(), arena)?;
    if config.rl.asks_reference() { learner.with_reference(arena) } else { Ok(learner) }
}

/// Carves everything that a run carves: over planned arenas this counts what it needs, model and phases apart.
///
/// # Errors
/// When an arena is full.
pub fn carve(
    config: &TrainConfig,
    setup: &Setup,
    stream: &Stream,
    [model, phase]: &mut [Arena; 2],
) -> Result<(), ArenaError> {
    let learner = learner(config, setup, Stream::new(stream.device().clone()), model)?;
    if setup.samples(config) {
        return step::plan(&learner.model, &config.rollout, &config.rl, phase);
    }
    drop(Pass::new(&learner.model.config, learner.model.dtype, config.rl.pass_limits(0), phase)?);
    Ok(())
}
