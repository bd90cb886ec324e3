use serde::{Deserialize, Serialize};

use super::progress::{Evaluated, Progress};
use super::run::HeldOutRun;
use super::{Alarm, Baseline, DataReport, Lengths, Setup, TrainConfig, TrainError};
use crate::evaluation::{Unread, nulls};
use crate::report::{Estimate, Table, Unit, paired_bootstrap};

/// Resamples of the bootstrap of the difference.
const RESAMPLES: u32 = 2000;

/// Everything a finished run has to say, as its last line says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Seed of the run.
    pub seed: u64,
    /// What learned in place of reinforcement learning, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Weights of the model.
    pub parameters: usize,
    /// Training, validation and held-out pairs.
    pub pairs: [usize; 3],
    /// Hash of all pairs.
    pub data_hash: String,
    /// What was noticed about the data.
    #[serde(default)]
    pub data: DataReport,
    /// Token lengths of the judge prompts.
    pub lengths: Lengths,
    /// Share of the embedded reading text's answers that are right; none where other data was used.
    pub reading_share_right: Option<f64>,
    /// Held-out pairs after the cold start.
    pub before: Option<Evaluated>,
    /// Held-out pairs after reinforcement learning, with the best weights by the validation pairs.
    pub after: Evaluated,
    /// Difference of the two accuracies over the same pairs.
    pub change: Option<Estimate>,
    /// Step of those weights.
    pub best_step: u64,
    /// Steps of the cold start and of reinforcement learning.
    pub steps: [u64; 2],
    /// Validation pairs, evaluation by evaluation.
    pub curve: Vec<Evaluated>,
    /// Judges that read nothing, on the held-out pairs.
    pub baselines: Vec<BaselineRow>,
    /// Alarms that were raised.
    #[serde(default)]
    pub alarms: Vec<Alarm>,
    /// Judgement tokens drawn in training.
    pub tokens_drawn: u64,
    /// The same a second, the update included.
    pub tokens_per_second: f64,
    /// Seconds of the run until its last step.
    pub seconds: f64,
}

/// A judge that reads nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineRow {
    /// What it looks at.
    pub name: String,
    /// All held-out pairs.
    pub overall: Option<Estimate>,
    /// Each task.
    pub tasks: Vec<(String, Option<Estimate>)>,
}

impl Outcome {
    /// Sums a finished run up.
    ///
    /// # Errors
    /// None that a finished run can cause; the error is the bootstrap's.
    pub(super) fn of(
        config: &TrainConfig,
        setup: &Setup,
        progress: &Progress,
        (best_step, after): (u64, &HeldOutRun),
    ) -> Result<Self, TrainError> {
        let data = &setup.data;
        let now = &after.credits;
        let before = &progress.before_credits;
        let comparable = !now.is_empty() && before.len() == now.len();
        let change = comparable.then(|| paired_bootstrap(before, now, RESAMPLES, config.seed));
        Ok(Self {
            seed: config.seed,
            baseline: config.rl.baseline,
            parameters: setup.model.parameters(),
            pairs: [data.train.len(), data.validation.len(), data.held_out.len()],
            data_hash: data.hash.clone(),
            data: setup.noticed.clone(),
            lengths: data.lengths.clone(),
            reading_share_right: (!setup.cold_start.is_empty()).then_some(config.sft.share_right),
            before: progress.before.clone(),
            after: after.evaluated.clone(),
            change: change.and_then(Result::ok),
            best_step,
            steps: [config.sft.steps, config.rl.steps],
            curve: progress.curve.clone(),
            baselines: baselines(setup, config.seed),
            alarms: progress.watch.raised.clone(),
            tokens_drawn: progress.tokens_drawn,
            tokens_per_second: progress.tokens_drawn as f64 / progress.rl_seconds.max(f64::MIN_POSITIVE),
            seconds: progress.seconds,
        })
    }

    /// The short table that a run ends with.
    pub fn table(&self) -> Table {
        let share = |e: Option<Estimate>| e.map_or("-".into(), |e| Unit::Share.show(e.value));
        let interval =
            |e: Option<Estimate>| e.map_or(String::new(), |e| Unit::Share.show_interval(e.low, e.high));
        let rate = |x: Option<f64>| x.map_or("-".into(), |x| Unit::Share.show(x));
        let mut table = Table::new(["held-out pairs", "before", "after", "95 % interval"]);
        let before = self.before.as_ref();
        let overall = before.and_then(|b| b.overall.accuracy);
        table.row([
            "accuracy".into(),
            share(overall),
            share(self.after.overall.accuracy),
            interval(self.after.overall.accuracy),
        ]);
        for (task, summary) in &self.after.tasks {
            let was = before.and_then(|b| b.tasks.iter().find(|(name, _)| name == task));
            let was = was.and_then(|(_, summary)| summary.accuracy);
            table.row([format!("  {task}"), share(was), share(summary.accuracy), interval(summary.accuracy)]);
        }
        let was = before.map(|b| &b.overall);
        let now = &self.after.overall;
        table.row(["ties".into(), rate(was.and_then(|w| w.tie_rate)), rate(now.tie_rate)]);
        table.row([
            "judgements without a verdict".into(),
            rate(was.and_then(|w| w.failure_rate)),
            rate(now.failure_rate),
        ]);
        for (kind, failed) in &now.failure_rates {
            let was = was.and_then(|w| w.failure_rates.get(kind).copied());
            table.row([format!("  {}", kind.name()), rate(was), rate(Some(*failed))]);
        }
        for baseline in &self.baselines {
            table.row([
                format!("judge: {}", baseline.name),
                String::new(),
                share(baseline.overall),
                interval(baseline.overall),
            ]);
        }
        table.row(["tokens a second".into(), String::new(), format!("{:.0}", self.tokens_per_second)]);
        table.row(["seconds".into(), String::new(), format!("{:.0}", self.seconds)]);
        table
    }
}

fn baselines(setup: &Setup, seed: u64) -> Vec<BaselineRow> {
    let rows =
        nulls::table(&setup.data.train, &setup.data.held_out, seed).into_iter().map(|judge| BaselineRow {
            name: judge.name.to_owned(),
            overall: judge.overall.accuracy(Unread::Wrong),
            tasks: judge
                .per_task
                .iter()
                .map(|(task, tally)| (task.clone(), tally.accuracy(Unread::Wrong)))
                .collect(),
        });
    rows.collect()
}
