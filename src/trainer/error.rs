use crate::checkpoint::CheckpointError;
use crate::device::DeviceError;
use crate::evaluation::JudgeError;
use crate::grpo::GrpoError;
use crate::ops::OpError;
use crate::optimizer::OptimizerError;
use crate::preference::PreferenceError;
use crate::qwen3::ConfigError;
use crate::record::RecordError;
use crate::report::MetricsError;
use crate::rollout::RolloutError;
use crate::rubric::RubricError;
use crate::tensor::ArenaError;
use crate::tokenizer::TokenizerError;

/// Why a run ended before its time. Each kind has an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TrainError {
    #[error(transparent)]
    Preference(#[from] PreferenceError),
    #[error(transparent)]
    Rubric(#[from] RubricError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error(transparent)]
    Rollout(RolloutError),
    #[error(transparent)]
    Grpo(#[from] GrpoError),
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    #[error(transparent)]
    Model(#[from] ConfigError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Memory(#[from] ArenaError),
    #[error(transparent)]
    Op(#[from] OpError),
    /// The plan does not fit, not even with one leaf at a time.
    #[error(
        "{source}, with one leaf at a time (smaller: rl.leaf_tokens, rl.tile_rows, rollout.kv_blocks, rollout.sequences; rl.keep = \"inputs\"; `patarm plan` tells what takes how much)"
    )]
    TooLittleMemory {
        /// What was refused.
        source: ArenaError,
    },
    /// A setting does not fit the others or the data.
    #[error("{setting}: {reason}")]
    Config {
        /// Its dotted name.
        setting: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A pair's prompt is longer than the limit.
    #[error(
        "pair {id}: its judge prompt has {tokens} tokens, {limit} is the most (data.max_prompt_tokens, the model's positions); raise it, or set data.overlong to \"drop\" or \"truncate\" (which cuts conversations, not responses)"
    )]
    Overlong {
        /// The pair.
        id: String,
        /// Tokens of its longer prompt.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// Text or ids of the data repeat, and that is denied.
    #[error("data: {reason} (data.contaminated is \"deny\")")]
    Contaminated {
        /// What repeats, with counts.
        reason: String,
    },
    /// The run was asked to end, and can go on later.
    #[error("stopped on request, and saved: go on with --resume and the same --out")]
    Stopped,
    /// An alarm ended the run, which can go on later.
    #[error(
        "paused by an alarm (alarms.action is \"pause\"), and saved: go on with --resume and the same --out, or end here"
    )]
    Paused,
    /// Loss or gradient were not finite too often in a row.
    #[error(
        "step {step}: {what} is not finite, {times} in a row; the last good checkpoint stays (lower the learning rate, or raise rl.patience)"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Which number.
        what: String,
        /// How often.
        times: u32,
    },
    /// Too many judgements had no verdict, too often in a row.
    #[error(
        "step {step}: {:.1} % of the judgements are without a verdict, {times} steps in a row over the limit of {:.1} % (look at `failures/` in the metrics and at samples.jsonl; a longer cold start teaches the form; guard.unread_limit, guard.unread_steps)",
        100.0 * rate, 100.0 * limit
    )]
    Unreadable {
        /// The step.
        step: u64,
        /// Their share.
        rate: f64,
        /// The limit.
        limit: f64,
        /// How many steps.
        times: u32,
    },
    /// Another process works in the run folder.
    #[error("{path} is in use by {holder}: wait until it ends, stop it, or give another --out")]
    Taken {
        /// The folder.
        path: std::path::PathBuf,
        /// Process, host and time, as far as they are known.
        holder: String,
    },
    /// The run that is to go on was begun otherwise.
    #[error("{path} was begun otherwise (was -> now):\n{differences}")]
    Changed {
        /// The folder.
        path: std::path::PathBuf,
        /// Key by key, and how to go on all the same.
        differences: String,
    },
    /// The run folder can't be used.
    #[error("{path}: {reason}")]
    Folder {
        /// The folder or file.
        path: std::path::PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl TrainError {
    /// A setting of one of the optimizers, by its whole name.
    pub(super) fn of_optimizer(group: &str, error: OptimizerError) -> Self {
        match error {
            OptimizerError::Setting { setting, value, range } => Self::Config {
                setting: format!("{group}.optimizer.{setting}"),
                reason: format!("{value}: it must be {range}"),
            },
            error => Self::Optimizer(error),
        }
    }

    /// Dotted name of the setting that is wrong, where one is.
    pub fn setting(&self) -> Option<String> {
        match self {
            Self::Config { setting, .. } => Some(setting.clone()),
            Self::Grpo(GrpoError::Setting { setting, .. } | GrpoError::Refused { setting, .. }) => {
                Some(format!("rl.{setting}"))
            }
            _ => None,
        }
    }
}

impl From<RolloutError> for TrainError {
    fn from(error: RolloutError) -> Self {
        match error {
            RolloutError::Stopped => Self::Stopped,
            error => Self::Rollout(error),
        }
    }
}
