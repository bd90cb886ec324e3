use super::Run;
use super::steps::Stepped;
use crate::optimizer::{Measure, Update};
use crate::trainer::{Batch, Gate, LeftOut, Observer, RunFolder, TrainError};

/// What a step gives rise to: a notice, a file, the end.
impl Run<'_> {
    /// Takes a step's updates into account: those out of line are counted and told, batches that were left out are written down,
    /// and the run ends after too many in a row that were not finite, or that nobody could read.
    pub(super) fn heed(
        &mut self,
        stepped: &mut Stepped,
        gate: Gate,
        (folder, observer): (&RunFolder, &mut dyn Observer),
    ) -> Result<(), TrainError> {
        let (step, guard) = (self.progress.step, &self.config.guard);
        for (loss, update) in &stepped.updates {
            let told = self.progress.seen.heed(guard, (*loss, gate), update);
            told.iter().for_each(|told| observer.notice(&format!("step {step}: {told}")));
            let unsound = not_finite(update);
            let why = told.or_else(|| unsound.as_ref().map(|what| format!("{what} is not finite")));
            if let Some(why) = why.filter(|_| !Stepped::is_applied(update)) {
                self.write_down(stepped, why, (folder, observer));
            }
            self.progress.skipped = if unsound.is_some() { self.progress.skipped + 1 } else { 0 };
            if let Some(what) = unsound.filter(|_| self.progress.skipped >= self.config.rl.patience) {
                return Err(TrainError::Diverged { step, what, times: self.progress.skipped });
            }
        }
        if guard.z > 0.0 {
            stepped.row.values.push(("outliers".into(), self.progress.seen.outliers as f64));
        }
        let Some(rate) = stepped.unread else { return Ok(()) };
        self.progress.seen.judgements(guard, (step, rate))
    }

    /// Keeps a step's judgements for replay where that is asked for. A disk that refuses does not end the run.
    pub(super) fn keep_rollouts(&self, stepped: &Stepped, folder: &RunFolder, observer: &mut dyn Observer) {
        let Batch::Judged(judged) = &stepped.batch else { return };
        let number = self.progress.step - 1 - self.config.sft.steps;
        if self.config.rl.records(number)
            && let Err(error) = folder.keep_rollouts(stepped.row.step, judged)
        {
            observer.notice(&format!("{error}: the judgements of step {} are not kept", stepped.row.step));
        }
    }

    fn write_down(
        &self,
        stepped: &Stepped,
        why: String,
        (folder, observer): (&RunFolder, &mut dyn Observer),
    ) {
        let Stepped { row, rows, batch, .. } = stepped;
        let phase = &row.phase;
        let left_out = LeftOut { step: row.step, phase, seed: self.config.seed, why, rows, batch };
        match folder.keep_left_out(&left_out) {
            Ok(at) => observer.notice(&format!("step {}: its batch is in {}", row.step, at.display())),
            Err(error) => observer.notice(&format!("{error}: the batch that was left out is not kept")),
        }
    }

    /// Whether the run may be saved as it stands: a checkpoint that is not finite would push out a good one.
    pub(super) fn check_finite(&self) -> Result<(), TrainError> {
        match self.learner.first_not_finite()? {
            Some(what) => Err(TrainError::Diverged { step: self.progress.step, what, times: 1 }),
            None => Ok(()),
        }
    }
}

/// What was not finite, if that is why there was no update.
fn not_finite(update: &Update) -> Option<String> {
    match update {
        Update::Skipped { parameter } => Some(format!("the gradient of {parameter}")),
        Update::LeftOut { what, value, .. } if !value.is_finite() => Some(Measure::name(*what).to_owned()),
        Update::LeftOut { .. } | Update::Applied { .. } => None,
    }
}
