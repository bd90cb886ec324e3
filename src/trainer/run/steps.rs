use super::Run;
use crate::evaluation::PreparedPair;
use crate::optimizer::Update;
use crate::report::Row;
use crate::trainer::learner::Pass;
use crate::trainer::step::{self, Method, StepReport};
use crate::trainer::{Stop, TrainError, baseline, data, metrics, sft};

/// One step of each phase: learn, count, and say what came of it.
impl Run<'_> {
    pub(super) fn supervised(&mut self, stop: Stop<'_>) -> Result<Row, TrainError> {
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
            stop,
        };
        let report = sft::step(&mut self.learner, plan, self.progress.step, &mut pass)?;
        self.after_update(&report.update)?;
        self.progress.step += 1;
        let now = (self.clock.0)();
        Ok(metrics::supervised(&report, self.progress.step, (began, now)))
    }

    /// A step of the baseline, on the pairs that reinforcement learning would take.
    pub(super) fn compare_rewards(&mut self, stop: Stop<'_>) -> Result<Row, TrainError> {
        let began = (self.clock.0)();
        let (number, rows) = self.step_rows();
        let pairs: Vec<&PreparedPair> = rows.iter().map(|&row| &self.setup.data.train[row]).collect();
        let head = (&self.config.rl, self.reward_token()?);
        let report = baseline::step(&mut self.learner, (head, stop), &pairs, number, &mut self.memory)?;
        self.after_update(&report.update)?;
        self.progress.step += 1;
        Ok(metrics::bradley_terry(&report, self.progress.step, (began, (self.clock.0)())))
    }

    /// The token whose row of the head is the baseline's reward.
    pub(super) fn reward_token(&self) -> Result<usize, TrainError> {
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

    pub(super) fn reinforce(&mut self, stop: Stop<'_>) -> Result<Row, TrainError> {
        let began = (self.clock.0)();
        let (number, rows) = self.step_rows();
        let pairs: Vec<&PreparedPair> = rows.iter().map(|&row| &self.setup.data.train[row]).collect();
        let method = Method {
            judge: &self.setup.judge,
            rollout: &self.config.rollout,
            reward: &self.config.reward,
            rl: &self.config.rl,
            seed: self.config.seed,
            stop,
        };
        let report = step::step(&mut self.learner, method, &pairs, number, &mut self.memory)?;
        report.updates.iter().try_for_each(|updated| self.after_update(&updated.update))?;
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
}
