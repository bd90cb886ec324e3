use std::path::PathBuf;

use super::Run;
use crate::evaluation::{Comparison, HeldOut, PreparedPair, Unread};
use crate::reward;
use crate::rollout::{Engine, Sampler};
use crate::trainer::outcome::Outcome;
use crate::trainer::progress::{Evaluated, Observer};
use crate::trainer::run_folder::{RunFolder, When};
use crate::trainer::{Baseline, Stop, TrainError, baseline};

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

impl Run<'_> {
    pub(super) fn validate(&mut self, observer: &mut dyn Observer) -> Result<f64, TrainError> {
        let HeldOutRun { evaluated, .. } = self.appraise(&self.setup.data.validation, Stop::of(observer))?;
        observer.evaluated("validation", &evaluated);
        let accuracy = evaluated.accuracy();
        self.progress.curve.push(evaluated);
        Ok(accuracy)
    }

    /// Judges the held-out pairs with the weights as they are.
    ///
    /// # Errors
    /// When a prompt does not fit the plan, or it was asked to stop.
    pub fn held_out(&mut self, stop: Stop<'_>) -> Result<HeldOutRun, TrainError> {
        self.appraise(&self.setup.data.held_out, stop)
    }

    /// Keeps judgements to read; where that fails, the run goes on without them.
    pub(super) fn keep_samples(
        &self,
        (folder, observer): (&RunFolder, &mut dyn Observer),
        when: When,
        held_out: &HeldOutRun,
    ) {
        let Some(comparison) = &held_out.comparison else { return };
        let (pairs, count) = (&self.setup.data.held_out, self.config.evaluation.samples);
        if let Err(error) = folder.keep_samples(when, pairs, comparison, count) {
            observer.notice(&format!("{error}: the run goes on without these samples"));
        }
    }

    /// Writes what learned, as it stands, as a model's or an adapter's folder, and says where.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn export(&self, folder: &RunFolder) -> Result<PathBuf, TrainError> {
        folder.export(&self.learner.model)
    }

    /// After the last step: the weights of the best checkpoint by its validation pairs are judged on the held-out pairs, and
    /// written as a model's folder, or an adapter's.
    ///
    /// # Errors
    /// When the checkpoint can't be read or the folder not be written; `Stopped`, and the same can be done again by a resumed run.
    pub fn finish(
        &mut self,
        folder: &mut RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let best = folder.load_best(&mut self.learner)?.unwrap_or(self.progress.step);
        let after = self.held_out(Stop::of(observer))?;
        observer.evaluated("held-out", &after.evaluated);
        self.keep_samples((folder, observer), When::After, &after);
        folder.export(&self.learner.model)?;
        Outcome::of(&self.config, self.setup, &self.progress, (best, &after))
    }

    /// Which side of every pair the model prefers: by its judgements, or by the baseline's rewards.
    fn appraise(&mut self, pairs: &[PreparedPair], stop: Stop<'_>) -> Result<HeldOutRun, TrainError> {
        let step = self.progress.step;
        if pairs.is_empty() {
            let evaluated = Evaluated::of_standings(step, &HeldOut::of_standings([]));
            return Ok(HeldOutRun { evaluated, credits: Vec::new(), comparison: None }); // no memory is planned for it
        }
        let (evaluated, standings, comparison) = match self.config.rl.baseline {
            None => {
                let comparison = self.compare(pairs, stop)?;
                let standings = comparison.judged.iter().map(|judged| judged.standing).collect();
                (Evaluated::of(step, &comparison), standings, Some(comparison))
            }
            Some(Baseline::BradleyTerry) => {
                let base = (&self.learner.stream, &self.learner.model);
                let head = (&self.config.rl, self.reward_token()?);
                let standings = baseline::standings(base, (head, stop), pairs, &mut self.memory)?;
                let tasks = pairs.iter().map(|prepared| prepared.pair.task.as_str());
                let held_out = HeldOut::of_standings(tasks.zip(standings.iter().copied()));
                (Evaluated::of_standings(step, &held_out), standings, None)
            }
        };
        let credits = standings.into_iter().map(|s: reward::Standing| Unread::Wrong.credit(s).unwrap_or(0.0));
        Ok(HeldOutRun { evaluated, credits: credits.collect(), comparison })
    }

    fn compare(&mut self, pairs: &[PreparedPair], stop: Stop<'_>) -> Result<Comparison, TrainError> {
        self.memory.reset();
        let model = &self.learner.model;
        let engine = Engine::new(&model.config, model.dtype, self.config.rollout.limits(), &mut self.memory)?;
        let stream = &self.learner.stream;
        let mut sampler = Sampler { stream, model, weights_version: self.learner.version, engine };
        let how = self.config.evaluation.judging(self.config.seed);
        Ok(self.setup.judge.compare(&mut sampler, (pairs, 0), how, &mut |_, _| stop.flow())?)
    }
}
