use super::learner::{Learner, Pass};
use super::outcome::Outcome;
use super::progress::{Clock, Evaluated, Observer, Phase, Progress};
use super::run_folder::{RunFolder, Standing, When};
use super::step::{self, Method, StepReport};
use super::{Baseline, Setup, TrainConfig, TrainError, baseline, data, metrics, sft};
use crate::device::Stream;
use crate::evaluation::{Comparison, HeldOut, JudgedPair, PreparedPair, Unread};
use crate::optimizer::Update;
use crate::qwen3::Model;
use crate::report::Row;
use crate::reward;
use crate::rollout::{Engine, Sampler};
use crate::tensor::{Arena, ArenaError};

/// A training run: cold start, reinforcement learning, evaluation, checkpoints.
#[derive(Debug)]
pub struct Run<'a> {
    config: &'a TrainConfig,
    setup: &'a Setup,
    learner: Learner,
    /// The frozen model of the KL term: the weights before the first step of reinforcement learning.
    reference: Option<Model>,
    memory: Arena,
    progress: Progress,
    clock: Clock,
    started: f64,
    /// Step of the newest checkpoint.
    saved: Option<u64>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// All steps are done.
    Finished,
    /// It was asked to stop, and can be resumed.
    Stopped,
}

/// Held-out pairs as they were judged, with what came of them.
#[derive(Debug)]
pub struct HeldOutRun {
    /// The numbers.
    pub evaluated: Evaluated,
    /// What each pair earned: 1 for a win, one half for a tie, 0 otherwise.
    pub credits: Vec<f64>,
    /// The judgements; none of a judge that writes nothing.
    pub comparison: Option<Comparison>,
}

impl<'a> Run<'a> {
    /// Plans and carves all memory, and loads or draws the weights.
    ///
    /// # Errors
    /// When the model can't be loaded.
    pub fn new(
        config: &'a TrainConfig,
        setup: &'a Setup,
        stream: Stream,
        clock: Clock,
    ) -> Result<Self, TrainError> {
        let mut planned = [Arena::planned("model"), Arena::planned("phase")];
        carve(config, setup, &stream, &mut planned)?;
        let device = stream.device().clone();
        let mut model = Arena::new("model", &device, planned[0].peak());
        let memory = Arena::new("phase", &device, planned[1].peak());
        let (mut learner, reference) = models(config, setup, stream, &mut model)?;
        match &setup.folder {
            Some(folder) => learner.model.read(folder, config.model.scan)?,
            None => learner.model.initialise(&learner.stream, config.seed)?,
        }
        learner.refresh_master();
        let (progress, started) = (Progress::default(), (clock.0)());
        Ok(Self { config, setup, learner, reference, memory, progress, clock, started, saved: None })
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
        let Some(progress) = folder.load(&mut self.learner, self.reference.as_mut(), observer)? else {
            return Ok(false);
        };
        self.started -= progress.seconds;
        self.saved = Some(progress.step);
        self.progress = progress;
        Ok(true)
    }

    /// Runs until all steps are done or the observer wants it to stop.
    ///
    /// # Errors
    /// What ended the run before its time; the last checkpoint stays.
    pub fn train(
        &mut self,
        folder: &mut RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<Ended, TrainError> {
        folder.check_room(self.standing(None), observer)?;
        while self.progress.step < self.total_steps() {
            if self.progress.step == self.config.sft.steps && self.progress.before.is_none() {
                self.begin_reinforcement(folder, observer)?;
            }
            let row = match self.phase() {
                Phase::Sft => self.supervised()?,
                Phase::Rl => self.reinforce()?,
                Phase::BradleyTerry => self.compare_rewards()?,
            };
            self.progress.seconds = (self.clock.0)() - self.started;
            folder.record(&row).iter().for_each(|notice| observer.notice(notice));
            observer.stepped(&self.progress, &row);
            self.evaluate_and_save(folder, observer)?;
            if observer.wants_stop() && self.progress.step < self.total_steps() {
                self.save(folder, None, observer)?;
                return Ok(Ended::Stopped);
            }
        }
        Ok(Ended::Finished)
    }

    fn phase(&self) -> Phase {
        match self.config.rl.baseline {
            _ if self.progress.step < self.config.sft.steps => Phase::Sft,
            None => Phase::Rl,
            Some(Baseline::BradleyTerry) => Phase::BradleyTerry,
        }
    }

    /// Between the phases: the model is judged, becomes the reference, and its optimizer starts anew.
    fn begin_reinforcement(
        &mut self,
        folder: &mut RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.learner.reset_moments();
        if let Some(reference) = &mut self.reference {
            self.learner.copy_weights(reference)?;
        }
        let before = self.held_out()?;
        observer.evaluated("held-out", &before.evaluated);
        self.keep_samples(folder, When::Before, &before)?;
        self.progress.before = Some(before.evaluated);
        self.progress.before_credits = before.credits;
        self.validate(observer)?;
        Ok(())
    }

    fn supervised(&mut self) -> Result<Row, TrainError> {
        let (config, rl) = (&self.config.sft, &self.config.rl);
        let began = (self.clock.0)();
        self.memory.reset();
        let limits = rl.pass_limits(0);
        let mut pass =
            Pass::new(&self.learner.model.config, self.learner.model.dtype, limits, &mut self.memory)?;
        let plan = sft::SftPlan {
            rows: &self.setup.cold_start,
            seed: self.config.seed,
            batch: config.rows,
            leaf_tokens: rl.leaf_tokens,
            leaves: rl.leaves,
            optimizer: &config.optimizer,
        };
        let report = sft::step(&mut self.learner, plan, self.progress.step, &mut pass)?;
        self.after_update(&report.update)?;
        self.progress.step += 1;
        let now = (self.clock.0)();
        Ok(metrics::supervised(&report, self.progress.step, (began, now)))
    }

    /// A step of the baseline, on the pairs that reinforcement learning would take.
    fn compare_rewards(&mut self) -> Result<Row, TrainError> {
        let began = (self.clock.0)();
        let (number, rows) = self.step_rows();
        let pairs: Vec<&PreparedPair> = rows.iter().map(|&row| &self.setup.data.train[row]).collect();
        let head = (&self.config.rl, self.reward_token()?);
        let report = baseline::step(&mut self.learner, head, &pairs, number, &mut self.memory)?;
        self.after_update(&report.update)?;
        self.progress.step += 1;
        Ok(metrics::bradley_terry(&report, self.progress.step, (began, (self.clock.0)())))
    }

    /// The token whose row of the head is the baseline's reward.
    fn reward_token(&self) -> Result<usize, TrainError> {
        let end = self.setup.judge.tokenizer.eos().first();
        let reason =
            || "the tokenizer names no end-of-sequence token, whose row would be the reward's".into();
        end.map(|token| token.0 as usize)
            .ok_or_else(|| TrainError::Config { setting: "rl.baseline", reason: reason() })
    }

    /// Number of the step after the cold start, from 0, and the rows of the training pairs that it takes.
    fn step_rows(&self) -> (u64, Vec<usize>) {
        let number = self.progress.step - self.config.sft.steps;
        let count = self.setup.data.train.len();
        (number, data::step_rows(self.config.seed, number, self.config.rl.pairs, count))
    }

    fn reinforce(&mut self) -> Result<Row, TrainError> {
        let began = (self.clock.0)();
        let (number, rows) = self.step_rows();
        let pairs: Vec<&PreparedPair> = rows.iter().map(|&row| &self.setup.data.train[row]).collect();
        let method = Method {
            judge: &self.setup.judge,
            rollout: &self.config.rollout,
            reward: &self.config.reward,
            rl: &self.config.rl,
            reference: self.reference.as_ref(),
            seed: self.config.seed,
        };
        let report = step::step(&mut self.learner, method, &pairs, number, &mut self.memory)?;
        self.after_update(&report.update)?;
        self.progress.step += 1;
        let cut = rows.iter().filter(|&&row| self.setup.data.cut[row] > 0).count();
        let row = self.account(&report, (began, (self.clock.0)()));
        Ok(row
            .with("pairs/truncated", cut as f64)
            .with("pairs/dropped", self.setup.data.lengths.dropped as f64))
    }

    fn account(&mut self, report: &StepReport, (began, now): (f64, f64)) -> Row {
        self.progress.tokens_drawn += report.tokens as u64;
        self.progress.rl_seconds += now - began;
        metrics::reinforcement(report, self.progress.step, (began, now))
    }

    /// Counts skipped updates and gives up after too many in a row.
    fn after_update(&mut self, update: &Update) -> Result<(), TrainError> {
        match update {
            Update::Applied { .. } => self.progress.skipped = 0,
            Update::Skipped { parameter } => {
                self.progress.skipped += 1;
                if self.progress.skipped >= self.config.rl.patience {
                    let what = format!("the gradient of {parameter}");
                    let (step, times) = (self.progress.step, self.progress.skipped);
                    return Err(TrainError::Diverged { step, what, times });
                }
            }
        }
        Ok(())
    }

    fn evaluate_and_save(
        &mut self,
        folder: &mut RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let (step, sft, last) =
            (self.progress.step, self.config.sft.steps, self.progress.step == self.total_steps());
        let due = step > sft && ((step - sft).is_multiple_of(self.config.evaluation.every.max(1)) || last);
        if due {
            let score = self.validate(observer)?;
            self.save(folder, Some(score), observer)?;
        } else if step.is_multiple_of(self.config.checkpoint.every.max(1)) || last {
            self.save(folder, None, observer)?;
        }
        Ok(())
    }

    /// Saves the run as it stands, unless a checkpoint of this step is there.
    fn save(
        &mut self,
        folder: &RunFolder,
        score: Option<f64>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if self.saved != Some(self.progress.step) {
            folder.save(self.standing(score), observer)?;
            self.saved = Some(self.progress.step);
        }
        Ok(())
    }

    fn standing(&self, score: Option<f64>) -> Standing<'_> {
        let (learner, reference) = (&self.learner, self.reference.as_ref());
        Standing { learner, reference, progress: &self.progress, score }
    }

    fn validate(&mut self, observer: &mut dyn Observer) -> Result<f64, TrainError> {
        let HeldOutRun { evaluated, .. } = self.appraise(&self.setup.data.validation)?;
        observer.evaluated("validation", &evaluated);
        let accuracy = evaluated.accuracy();
        self.progress.curve.push(evaluated);
        Ok(accuracy)
    }

    /// Judges the held-out pairs with the weights as they are.
    ///
    /// # Errors
    /// When a prompt does not fit the plan.
    pub fn held_out(&mut self) -> Result<HeldOutRun, TrainError> {
        self.appraise(&self.setup.data.held_out)
    }

    fn keep_samples(&self, folder: &RunFolder, when: When, held_out: &HeldOutRun) -> Result<(), TrainError> {
        let Some(comparison) = &held_out.comparison else { return Ok(()) };
        folder.keep_samples(when, &self.setup.data.held_out, comparison, self.config.evaluation.samples)
    }

    /// After the last step: the weights of the best checkpoint by its validation pairs are judged on the held-out pairs, and
    /// written as a model folder.
    ///
    /// # Errors
    /// When the checkpoint can't be read or the folder not be written.
    pub fn finish(
        &mut self,
        folder: &mut RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let best = folder.load_best(&mut self.learner)?.unwrap_or(self.progress.step);
        let after = self.held_out()?;
        observer.evaluated("held-out", &after.evaluated);
        self.keep_samples(folder, When::After, &after)?;
        folder.export(&self.learner.model)?;
        Outcome::of(self.config, self.setup, &self.progress, (best, &after))
    }

    /// Which side of every pair the model prefers: by its judgements, or by the baseline's rewards.
    fn appraise(&mut self, pairs: &[PreparedPair]) -> Result<HeldOutRun, TrainError> {
        let step = self.progress.step;
        let (evaluated, standings, comparison) = match self.config.rl.baseline {
            None => {
                let comparison = self.compare(pairs)?;
                let standings = comparison.judged.iter().map(JudgedPair::standing).collect();
                (Evaluated::of(step, &comparison), standings, Some(comparison))
            }
            Some(Baseline::BradleyTerry) => {
                let base = (&self.learner.stream, &self.learner.model);
                let head = (&self.config.rl, self.reward_token()?);
                let standings = baseline::standings(base, head, pairs, &mut self.memory)?;
                let tasks = pairs.iter().map(|prepared| prepared.pair.task.as_str());
                let held_out = HeldOut::of_standings(tasks.zip(standings.iter().copied()));
                (Evaluated::of_standings(step, &held_out), standings, None)
            }
        };
        let credits = standings.into_iter().map(|s: reward::Standing| Unread::Wrong.credit(s).unwrap_or(0.0));
        Ok(HeldOutRun { evaluated, credits: credits.collect(), comparison })
    }

    fn compare(&mut self, pairs: &[PreparedPair]) -> Result<Comparison, TrainError> {
        self.memory.reset();
        let model = &self.learner.model;
        let engine = Engine::new(&model.config, model.dtype, self.config.rollout.limits(), &mut self.memory)?;
        let stream = &self.learner.stream;
        let mut sampler = Sampler { stream, model, weights_version: self.learner.version, engine };
        let how = self.config.evaluation.judging(self.config.seed);
        Ok(self.setup.judge.compare(&mut sampler, pairs, how, &mut |_, _| {})?)
    }
}

/// The model that learns and, where the loss needs one, the frozen reference.
fn models(
    config: &TrainConfig,
    setup: &Setup,
    stream: Stream,
    arena: &mut Arena,
) -> Result<(Learner, Option<Model>), ArenaError> {
    let dtype = config.model.dtype.storage();
    let mut model = || Model::new(setup.model.clone(), dtype, setup.positions(config), arena);
    let reference = (config.rl.loss.kl != 0.0).then(&mut model).transpose()?;
    let model = model()?;
    Ok((Learner::new(stream, model, arena)?, reference))
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
    let (learner, _reference) = models(config, setup, Stream::new(stream.device().clone()), model)?;
    step::plan(&learner.model, &config.rollout, &config.rl, phase)
}
