use super::Run;
use crate::evaluation::PreparedPair;
use crate::optimizer::Update;
use crate::report::Row;
use crate::trainer::learner::Pass;
use crate::trainer::step::{self, Method, StepReport};
use crate::trainer::{Batch, Gate, Reference, Stop, TrainError, baseline, data, metrics, sft};

/// What a step of any phase came to.
pub(super) struct Stepped {
    pub(super) row: Row,
    /// Loss of every update, and what became of it.
    pub(super) updates: Vec<(f64, Update)>,
    /// Share of judgements without a verdict, where there were any.
    pub(super) unread: Option<f64>,
    /// Rows of the training data.
    pub(super) rows: Vec<usize>,
    /// What they were made into, where an update was left out or judgements are recorded; else empty.
    pub(super) batch: Batch,
}

impl Stepped {
    pub(super) fn is_applied(update: &Update) -> bool {
        matches!(update, Update::Applied { .. })
    }
}

/// One step of each phase: learn, count, and say what came of it.
impl Run<'_> {
    pub(super) fn supervised(&mut self, (gate, stop): (Gate, Stop<'_>)) -> Result<Stepped, TrainError> {
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
            gate,
            stop,
        };
        let report = sft::step(&mut self.learner, plan, self.progress.step, &mut pass)?;
        let all = &self.setup.cold_start;
        let rows = data::step_rows(self.config.seed, self.progress.step, config.rows, all.len());
        let left_out = if Stepped::is_applied(&report.update) { &[][..] } else { &rows };
        let batch = Batch::Rows(left_out.iter().map(|&row| all[row].clone()).collect());
        self.progress.step += 1;
        let row = metrics::supervised(&report, self.progress.step, (began, (self.clock.0)()));
        Ok(Stepped { row, updates: vec![(report.loss, report.update)], unread: None, rows, batch })
    }

    /// A step of the baseline, on the pairs that reinforcement learning would take.
    pub(super) fn compare_rewards(&mut self, (gate, stop): (Gate, Stop<'_>)) -> Result<Stepped, TrainError> {
        let began = (self.clock.0)();
        let (number, rows) = self.step_rows();
        let pairs: Vec<&PreparedPair> = rows.iter().map(|&row| &self.setup.data.train[row]).collect();
        let head = (&self.config.rl, self.reward_token()?);
        let report = baseline::step(&mut self.learner, (head, gate, stop), &pairs, number, &mut self.memory)?;
        let left_out = if Stepped::is_applied(&report.update) { &[][..] } else { &pairs };
        let batch = Batch::Pairs(left_out.iter().map(|&pair| pair.clone()).collect());
        self.progress.step += 1;
        let row = metrics::bradley_terry(&report, self.progress.step, (began, (self.clock.0)()));
        Ok(Stepped { row, updates: vec![(report.loss, report.update)], unread: None, rows, batch })
    }

    /// The token whose row of the head is the baseline's reward.
    pub(super) fn reward_token(&self) -> Result<usize, TrainError> {
        let end = self.setup.judge.tokenizer.eos().first();
        let reason =
            || "the tokenizer names no end-of-sequence token, whose row would be the reward's".into();
        end.map(|token| token.0 as usize)
            .ok_or_else(|| TrainError::Config { setting: "rl.baseline".into(), reason: reason() })
    }

    /// Number of the step after the cold start, from 0, and the rows of the training pairs that it takes.
    fn step_rows(&self) -> (u64, Vec<usize>) {
        let number = self.progress.step - self.config.sft.steps;
        let count = self.setup.data.train.len();
        (number, data::step_rows(self.config.seed, number, self.config.rl.pairs, count))
    }

    pub(super) fn reinforce(&mut self, (gate, stop): (Gate, Stop<'_>)) -> Result<Stepped, TrainError> {
        let began = (self.clock.0)();
        let (number, rows) = self.step_rows();
        let pairs: Vec<&PreparedPair> = rows.iter().map(|&row| &self.setup.data.train[row]).collect();
        let method = Method {
            judge: &self.setup.judge,
            rollout: &self.config.rollout,
            reward: &self.config.reward,
            rl: &self.config.rl,
            seed: self.config.seed,
            gate,
            stop,
        };
        let report = step::step(&mut self.learner, method, &pairs, number, &mut self.memory)?;
        if let Reference::Synchronised { every } = self.config.rl.reference
            && (number + 1).is_multiple_of(every)
        {
            self.learner.renew_reference()?;
        }
        self.progress.step += 1;
        let cut = rows.iter().filter(|&&row| self.setup.data.cut[row] > 0).count();
        let row = self.account(&report, (began, (self.clock.0)()));
        let row = row
            .with("pairs/truncated", cut as f64)
            .with("pairs/dropped", self.setup.data.lengths.dropped as f64);
        let (unread, batch) = (Some(report.rewards.failure_rate()), Batch::Judged(report.judged));
        let updates = report.updates.into_iter().map(|updated| (updated.sums.loss, updated.update)).collect();
        Ok(Stepped { row, updates, unread, rows, batch })
    }

    fn account(&mut self, report: &StepReport, (began, now): (f64, f64)) -> Row {
        self.progress.tokens_drawn += (report.tokens + report.redrawn.tokens) as u64;
        self.progress.rl_seconds += now - began;
        metrics::reinforcement(report, self.progress.step, (began, now))
    }
}
