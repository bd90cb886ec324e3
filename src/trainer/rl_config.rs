use serde::{Deserialize, Serialize};

use super::{PassLimits, TrainError};
use crate::grpo::{AdvantageConfig, LossConfig, RewardKl};
use crate::optimizer::OptimizerConfig;
use crate::qwen3::Keep;

/// A reward model to compare with, on the same base and the same pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// A scalar reward, trained by -ln sigmoid(chosen - rejected).
    BradleyTerry,
}

/// The model that KL terms hold the policy to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reference {
    /// There is none, and no KL term either.
    None {},
    /// The weights before the first step of reinforcement learning.
    Frozen {},
    /// These at first, and the policy's own after every so many steps.
    Synchronised {
        /// Steps, at least 1.
        every: u64,
    },
}

/// Reinforcement learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RlConfig {
    /// What learns from the pairs in place of PAR, with these steps, pairs and optimizer; none by default.
    pub baseline: Option<Baseline>,
    /// Steps: each samples judgements anew. (Learning rates and their schedule count optimizer updates, `epochs * minibatches`
    /// of a step.)
    pub steps: u64,
    /// Pairs of a step: each gives 2 n judgements. Default 32.
    pub pairs: usize,
    /// How often a step's judgements are learned from, at least 1. Default 1: always on-policy.
    pub epochs: usize,
    /// Updates of one pass over a step's judgements, each on as many pairs in their order: a divisor of `pairs`. Default 1.
    pub minibatches: usize,
    /// How often a group without an advantage is judged anew, at most 100 times, before it is left as it is. Default 0. (What is
    /// said of rewards, scores and failures is of the first judgements.)
    pub resample: u32,
    /// Steps from one whose judgements are kept, for `patarm replay`, in the run folder's `rollouts/` to the next, the first being
    /// kept. Default 0: none are.
    pub record_every: u64,
    /// `{ kind = "none" | "frozen" | "synchronised", every = steps }`. Default frozen; it takes memory only where a KL term asks for
    /// it.
    pub reference: Reference,
    /// The KL to the reference as part of the reward; nothing by default.
    pub reward_kl: RewardKl,
    /// From rewards to advantages.
    pub advantage: AdvantageConfig,
    /// Normalisation, clipping, KL, entropy.
    pub loss: LossConfig,
    /// AdamW.
    pub optimizer: OptimizerConfig,
    /// Most packed tokens of one leaf: sums over tokens are taken inside leaves. Default 4096.
    pub leaf_tokens: usize,
    /// Leaves in memory at once; changes memory and speed, never a result. Default 1.
    pub leaves: usize,
    /// Rows of one tile of logits; a multiple of 512. Default 512.
    pub tile_rows: usize,
    /// What the forward pass keeps: `all` (default) or `inputs` (recompute).
    pub keep: Keep,
    /// Steps in a row with a non-finite loss or gradient after which the run ends. Default 1.
    pub patience: u32,
}

impl Default for RlConfig {
    fn default() -> Self {
        Self {
            baseline: None,
            steps: 400,
            pairs: 32,
            epochs: 1,
            minibatches: 1,
            resample: 0,
            record_every: 0,
            reference: Reference::Frozen {},
            reward_kl: RewardKl::default(),
            advantage: AdvantageConfig::default(),
            loss: LossConfig::default(),
            optimizer: OptimizerConfig::default(),
            leaf_tokens: 4096,
            leaves: 1,
            tile_rows: 512,
            keep: Keep::All,
            patience: 1,
        }
    }
}

impl RlConfig {
    /// Checks every setting's range, and that they fit each other.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |setting: &str, reason| Err(TrainError::Config { setting: setting.into(), reason });
        if self.epochs == 0 {
            return refuse("rl.epochs", "0: every step's judgements are learned from at least once".into());
        }
        if self.minibatches == 0 || !self.pairs.is_multiple_of(self.minibatches) {
            let reason = format!(
                "{} does not divide rl.pairs = {}: updates take equally many pairs",
                self.minibatches, self.pairs
            );
            return refuse("rl.minibatches", reason);
        }
        if self.resample > 100 {
            return refuse("rl.resample", format!("{}: at most 100", self.resample));
        }
        match self.reference {
            Reference::None {} if self.asks_reference() => {
                let reason =
                    "none, but rl.loss.kl or rl.reward_kl.coefficient is not 0: take frozen or synchronised";
                return refuse("rl.reference", reason.into());
            }
            Reference::Synchronised { every: 0 } => {
                return refuse("rl.reference.every", "0: at least 1 step".into());
            }
            _ => {}
        }
        self.reward_kl.check()?;
        self.advantage.check()?;
        self.loss.check()?;
        self.optimizer.check().map_err(|error| TrainError::of_optimizer("rl", error))
    }

    /// Whether a KL term asks for the reference.
    pub fn asks_reference(&self) -> bool {
        self.loss.kl != 0.0 || self.reward_kl.coefficient != 0.0
    }

    /// Whether the judgements of step `step` (from 0) are kept.
    pub fn records(&self, step: u64) -> bool {
        self.record_every > 0 && step.is_multiple_of(self.record_every)
    }

    /// Optimizer updates of a step; the baseline makes one.
    pub fn updates(&self) -> u64 {
        if self.baseline.is_some() { 1 } else { (self.epochs as u64).saturating_mul(self.minibatches as u64) }
    }

    /// Sizes of a training pass over at most `sequences` sequences.
    pub fn pass_limits(&self, sequences: usize) -> PassLimits {
        let rows = self.leaf_tokens * self.leaves.max(1);
        // A family's completions share the row that predicts their first tokens.
        PassLimits { rows, targets: rows + sequences, tile: self.tile_rows, keep: self.keep }
    }
}
