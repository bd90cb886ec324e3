use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{AlarmConfig, Baseline, GuardConfig, MemoryConfig, RlConfig, TrainError};
use crate::checkpoint::Scan;
use crate::evaluation::{Judge, Judging, Mode, ScoreReading, Vote};
use crate::optimizer::OptimizerConfig;
use crate::qwen3::LowRank;
use crate::record::Sampling;
use crate::report::MetricNames;
use crate::reward::{ParConfig, ParConfigError};
use crate::rubric::RubricSet;
use crate::tokenizer::{Thinking, Tokenizer};

/// Everything that a run depends on. `--print-config` prints it merged; the run folder keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seed of the whole run: data order, cold-start scores, sampling. Default 1.
    pub seed: u64,
    /// Which model is trained.
    pub model: ModelConfig,
    /// A low-rank addition that learns while the model's own weights stay: `{ rank, alpha, targets }`. None, the default: every
    /// weight learns.
    pub lora: Option<LowRank>,
    /// Which pairs it learns from.
    pub data: DataConfig,
    /// The cold start.
    pub sft: SftConfig,
    /// How judgements are sampled.
    pub rollout: RolloutConfig,
    /// PAR and format rewards.
    pub reward: ParConfig,
    /// Steps of reinforcement learning.
    pub rl: RlConfig,
    /// When and how the model is evaluated.
    pub evaluation: EvaluationConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// When the run says that something goes wrong.
    pub alarms: AlarmConfig,
    /// How its numbers are shown.
    pub report: ReportConfig,
    /// Losses and gradients out of line, and judgements that cannot be read.
    pub guard: GuardConfig,
    /// How much memory it may take.
    pub memory: MemoryConfig,
}

/// Which model is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Hugging Face folder; none: the embedded demo model.
    pub path: Option<PathBuf>,
    /// Folder of an adapter on top of it, in peft's layout; none: the model alone. Training goes on with its factors.
    pub adapter: Option<PathBuf>,
    /// Storage of weights and activations: `f32` (default), `bf16`, `f64`.
    pub dtype: ModelDtype,
    /// Whether loaded weights are looked at: `finite` (default: NaN and infinity are errors) or `skip`.
    pub scan: Scan,
}

/// Storage of weights and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ModelDtype {
    #[default]
    F32,
    Bf16,
    F64,
}

/// Which pairs the model learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// File or folder of preference pairs; none: the embedded demo pairs.
    pub path: Option<PathBuf>,
    /// Folder of task files that replace or add to the built-in rubrics; none: the built-in ones.
    pub rubrics: Option<PathBuf>,
    /// Task of rows that name none. Default `chat`.
    pub task: String,
    /// Training pairs of the embedded demo. Default 4096.
    pub demo_pairs: usize,
    /// Share of prompts held out, by content hash, 0 to 1. Default 0.1. (The demo holds out pairs of its own.)
    pub held_out_share: f64,
    /// Rows that may be bad before the run stops. Default 0.
    pub skip_bad: usize,
    /// Longest judge prompt, tokens. Default 1024.
    pub max_prompt_tokens: usize,
    /// What happens to pairs with a longer prompt: `error` (default), `drop` or `truncate` (both counted).
    pub overlong: Overlong,
    /// Ids that stand twice, and held-out prompts that training text repeats: `warn` (default) or `deny`.
    pub contaminated: Contaminated,
}

/// What happens to a pair whose prompt is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlong {
    /// The run does not start.
    #[default]
    Error,
    /// The pair is left out, and counted.
    Drop,
    /// Its conversation loses its beginning, for both sides alike, and the pair is counted.
    Truncate,
}

/// What happens where ids stand twice or training text repeats a held-out prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contaminated {
    /// The run says so and starts.
    #[default]
    Warn,
    /// The run does not start.
    Deny,
}

/// The cold start: reading, then the output grammar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftConfig {
    /// Optimizer steps; 0 leaves the cold start out.
    pub steps: u64,
    /// Rows of a step. Default 64.
    pub rows: usize,
    /// Share of the embedded reading text's answers that are right, 0 to 1. Default 0.85.
    pub share_right: f64,
    /// AdamW of the cold start.
    pub optimizer: OptimizerConfig,
}

/// How judgements are sampled for training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Judgements of each response, n. At least 2. Default 8.
    pub samples: u32,
    /// Longest judgement, tokens; a thought before it does not count. Default 64.
    pub max_new_tokens: usize,
    /// Whether the judge thinks before it judges: `off` (default) or `on`, for models whose chat template knows the difference.
    pub thinking: Thinking,
    /// Most tokens of a thought; then it is ended by force, in tokens that no loss weighs. Default 512.
    pub thinking_budget: usize,
    /// How tokens are drawn. Default T = 1 without truncation: on-policy to the bit.
    pub sampling: Sampling,
    /// Tokens of one forward pass of prefill. Default 4096.
    pub tokens_per_pass: usize,
    /// Sequences drawn from at once. Default 512.
    pub sequences: usize,
    /// KV blocks of 64 positions. Default 2048.
    pub kv_blocks: usize,
}

/// When and how the model is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Steps between evaluations on the validation pairs. Default 50.
    pub every: u64,
    /// Validation pairs: for the curve and the choice of the best checkpoint. Default 200.
    pub validation_pairs: usize,
    /// Held-out pairs: judged before and after reinforcement learning only. Default 600.
    pub held_out_pairs: usize,
    /// How evaluation draws. Default as in training: T = 1. (T = 0 is greedy.)
    pub sampling: Sampling,
    /// Judgements of each response; side by side, of each order of a pair. Default 4.
    pub judgements: u32,
    /// What the judge is shown: `pointwise` (default: one response) or `pairwise` (both side by side, in both orders).
    pub mode: Mode,
    /// How several judgements become one: `mean` (default) or `majority`.
    pub vote: Vote,
    /// What a judgement of one response says: the score that it writes (`parsed`, default), or the mean over all scores that it
    /// could have written there, each by its probability (`expected`).
    pub reading: ScoreReading,
    /// Pairs whose judgements are kept as samples. Default 12.
    pub samples: usize,
}

impl RolloutConfig {
    /// Tokens that one judgement draws at most: its thought, with the tag that opens it, and its answer.
    pub fn most_drawn(&self) -> usize {
        self.max_new_tokens + if self.thinking == Thinking::On { 1 + self.thinking_budget } else { 0 }
    }
}

impl EvaluationConfig {
    fn check(&self, baseline: Option<Baseline>) -> Result<(), TrainError> {
        if baseline.is_some() && self.mode == Mode::Pairwise {
            let reason = "a Bradley-Terry reward is of one response: leave it \"pointwise\"".into();
            return Err(TrainError::Config { setting: "evaluation.mode".into(), reason });
        }
        if self.reading == ScoreReading::Expected && (self.mode, self.vote) != (Mode::Pointwise, Vote::Mean) {
            let reason = "an expected score is of one response, and several are averaged: it needs \
                          evaluation.mode = \"pointwise\" and evaluation.vote = \"mean\"";
            return Err(TrainError::Config { setting: "evaluation.reading".into(), reason: reason.into() });
        }
        Ok(())
    }

    /// How its pairs are judged in a run of this seed.
    pub fn judging(&self, seed: u64) -> Judging {
        let &Self { sampling, judgements, mode, vote, .. } = self;
        Judging { sampling, judgements, seed, mode, vote }
    }
}

/// How a run's numbers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// Names in TensorBoard: `trl` (default) or `verl`.
    pub metric_names: MetricNames,
}

/// Checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints. Default 100.
    pub every: u64,
    /// Checkpoints kept besides the best. Default 2.
    pub keep: usize,
    /// How often a save that the disk refused is tried again before the run ends. Default 5.
    pub retries: u32,
    /// Seconds before the first of these, above 0; twice as many before each further one. Default 10: 310 s in all.
    pub retry_seconds: f64,
}

impl TrainConfig {
    /// Fills in what follows from other settings: a cosine that names no last step ends with its phase's last update; dr_grpo without a
    /// constant and the soft penalty without a limit take the longest judgement.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        let updates = self.rl.steps.saturating_mul(self.rl.updates());
        for (optimizer, steps) in
            [(&mut self.sft.optimizer, self.sft.steps), (&mut self.rl.optimizer, updates)]
        {
            if optimizer.schedule.total_steps == 0 {
                optimizer.schedule.total_steps = steps;
            }
        }
        let most = self.rollout.most_drawn();
        for longest in [&mut self.rl.loss.constant, &mut self.reward.overlong.limit] {
            if *longest == 0 {
                *longest = most;
            }
        }
        self
    }

    /// A judge that answers as these settings say.
    ///
    /// # Errors
    /// When the model can't think, or its scores can't be weighed, and that is asked for.
    pub fn judge(&self, rubric: RubricSet, tokenizer: Tokenizer) -> Result<Judge, TrainError> {
        let mut judge = Judge::new(rubric, tokenizer, self.rollout.max_new_tokens);
        if self.rollout.thinking == Thinking::On {
            judge = judge.thinking(self.rollout.thinking_budget)?;
        }
        Ok(match self.evaluation.reading {
            ScoreReading::Parsed => judge,
            ScoreReading::Expected => judge.expecting()?,
        })
    }

    /// Checks the settings of reward, advantages, loss and optimizers.
    ///
    /// # Errors
    /// The first that is out of its range or does not fit the others.
    pub fn check(&self) -> Result<(), TrainError> {
        let reward = |e: ParConfigError| TrainError::Config {
            setting: format!("reward.{}", e.setting),
            reason: format!("{}: it must be {}", e.value, e.range),
        };
        self.reward.check().map_err(reward)?;
        self.guard.check()?;
        self.rl.check()?;
        self.alarms.check()?;
        self.evaluation.check(self.rl.baseline)?;
        self.check_kept()?;
        self.sft.optimizer.check().map_err(|error| TrainError::of_optimizer("sft", error))
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            model: ModelConfig::default(),
            lora: None,
            data: DataConfig::default(),
            sft: SftConfig::default(),
            rollout: RolloutConfig::default(),
            reward: ParConfig::default(),
            rl: RlConfig::default(),
            evaluation: EvaluationConfig::default(),
            checkpoint: CheckpointConfig::default(),
            alarms: AlarmConfig::default(),
            report: ReportConfig::default(),
            guard: GuardConfig::default(),
            memory: MemoryConfig::default(),
        }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: None,
            rubrics: None,
            task: "chat".into(),
            demo_pairs: 4096,
            held_out_share: 0.1,
            skip_bad: 0,
            max_prompt_tokens: 1024,
            overlong: Overlong::Error,
            contaminated: Contaminated::Warn,
        }
    }
}

impl Default for SftConfig {
    fn default() -> Self {
        let optimizer = OptimizerConfig { lr: 2e-3, beta2: 0.95, ..OptimizerConfig::default() };
        Self { steps: 400, rows: 64, share_right: 0.85, optimizer }
    }
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            samples: 8,
            max_new_tokens: 64,
            thinking: Thinking::Off,
            thinking_budget: 512,
            sampling: Sampling::default(),
            tokens_per_pass: 4096,
            sequences: 512,
            kv_blocks: 2048,
        }
    }
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            every: 50,
            validation_pairs: 200,
            held_out_pairs: 600,
            sampling: Sampling::default(),
            judgements: 4,
            mode: Mode::Pointwise,
            vote: Vote::Mean,
            reading: ScoreReading::Parsed,
            samples: 12,
        }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 100, keep: 2, retries: 5, retry_seconds: 10.0 }
    }
}
