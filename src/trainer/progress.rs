use serde::{Deserialize, Serialize};

use super::Seen;
use super::alarms::Watch;
use crate::evaluation::{Comparison, HeldOut, Summary, Unread};
use crate::report::Row;

/// Which part of a run a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The cold start: supervised steps.
    Sft,
    /// Reinforcement learning.
    Rl,
    /// The Bradley-Terry baseline, in place of it.
    BradleyTerry,
}

impl Phase {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Rl => "rl",
            Self::BradleyTerry => "bradley_terry",
        }
    }
}

/// One evaluation: all pairs, and each task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Step after which it was made, counted through both phases.
    pub step: u64,
    /// All pairs.
    pub overall: Summary,
    /// Each task by name.
    pub tasks: Vec<(String, Summary)>,
    /// Judgements by score, chosen and rejected: counts of 1, 1.1, … 10 rounded to whole scores 1 to 10.
    pub histogram: [[u64; 10]; 2],
}

impl Evaluated {
    /// What a comparison came to.
    pub fn of(step: u64, comparison: &Comparison) -> Self {
        let mut histogram = [[0; 10]; 2];
        for pair in &comparison.judged {
            for (counts, judgements) in histogram.iter_mut().zip([&pair.chosen, &pair.rejected]) {
                for score in judgements.iter().filter_map(|judgement| judgement.score()) {
                    counts[(score.value().round() as usize).clamp(1, 10) - 1] += 1;
                }
            }
        }
        Self { histogram, ..Self::of_standings(step, &comparison.held_out) }
    }

    /// The same where there are no scores on the scale: the histogram is empty.
    pub fn of_standings(step: u64, held_out: &HeldOut) -> Self {
        let tasks = held_out.per_task.iter().map(|(task, f)| (task.clone(), f.summary(Unread::Wrong)));
        let overall = held_out.overall.summary(Unread::Wrong);
        Self { step, overall, tasks: tasks.collect(), histogram: [[0; 10]; 2] }
    }

    /// Overall accuracy; 0 where no pair counts.
    pub fn accuracy(&self) -> f64 {
        self.overall.accuracy.map_or(0.0, |accuracy| accuracy.value)
    }
}

/// Where a run stands: what a checkpoint keeps beside the tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Steps done, counted through both phases.
    pub step: u64,
    /// Steps in a row whose update was skipped.
    pub skipped: u32,
    /// The held-out pairs after the cold start.
    pub before: Option<Evaluated>,
    /// What each held-out pair earned then: 1, 1/2 or 0.
    pub before_credits: Vec<f64>,
    /// The validation pairs, evaluation by evaluation.
    pub curve: Vec<Evaluated>,
    /// Seconds of work so far, over all processes that took part.
    pub seconds: f64,
    /// Tokens drawn for training so far.
    pub tokens_drawn: u64,
    /// Seconds of reinforcement learning steps so far.
    pub rl_seconds: f64,
    /// What the alarms saw.
    #[serde(default)]
    pub watch: Watch,
    /// What the last updates were like.
    pub seen: Seen,
}

/// Hears what a run does. Only the command line prints.
pub trait Observer {
    /// Step `number`, counted from 1 through all phases, begins.
    fn begins(&mut self, _number: u64) {}
    /// A step is done.
    fn stepped(&mut self, progress: &Progress, row: &Row);
    /// An evaluation is done.
    fn evaluated(&mut self, pairs: &'static str, evaluated: &Evaluated);
    /// Something the person should know.
    fn notice(&mut self, text: &str);
    /// Lets this many seconds pass, or fewer once the run should end.
    fn wait(&mut self, seconds: f64);
    /// Whether the run should end after this step, with a checkpoint.
    fn wants_stop(&self) -> bool;
}

/// Seconds since 1970-01-01 UTC. Nothing but records depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub fn() -> f64);
