//! From rewards to advantages: how much better a judgement did than the others of its prompt. One file an estimator.

mod batch_std;
mod grpo;
mod reinforce_plus_plus;
mod rloo;

use serde::{Deserialize, Serialize};

use super::{GrpoError, refuse};
use crate::reward::Reward;

/// How much better a sequence did than its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Advantage(pub f64);

/// How rewards become advantages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// (reward - mean) / (std + eps), the group's mean and sample standard deviation (arXiv 2402.03300; TRL).
    #[default]
    Grpo,
    /// reward - mean (arXiv 2503.20783).
    GrpoWithoutStd,
    /// (reward - the group's mean) / (std + eps), the standard deviation of all rewards of the step (arXiv 2508.08221; TRL's
    /// `scale_rewards = batch`).
    GrpoBatchStd,
    /// reward - mean of the others of its group (arXiv 2402.14740).
    Rloo,
    /// reward - the group's mean, then whitened over all tokens of the step (arXiv 2501.03262; verl's
    /// `reinforce_plus_plus_baseline`).
    ReinforcePlusPlus,
}

/// Settings of the estimator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvantageConfig {
    /// Default grpo.
    pub estimator: Estimator,
    /// Added to the standard deviation of the grpo estimators, above 0. Default 1e-4 (TRL; verl has 1e-6).
    pub eps: f64,
}

impl Default for AdvantageConfig {
    fn default() -> Self {
        Self { estimator: Estimator::default(), eps: 1e-4 }
    }
}

impl AdvantageConfig {
    /// Checks the setting's range.
    ///
    /// # Errors
    /// When `eps` is not above 0.
    pub fn check(&self) -> Result<(), GrpoError> {
        refuse(&[("advantage.eps", self.eps, self.eps > 0.0 && self.eps.is_finite(), "above 0")])
    }
}

/// Whether a group tells better from worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// It does.
    Alive,
    /// Fewer than two rewards: nothing to compare.
    TooFew,
    /// All rewards are equal.
    Equal,
}

impl Life {
    /// Of a group with these rewards.
    pub fn of(rewards: impl IntoIterator<Item = Reward>) -> Self {
        let mut rewards = rewards.into_iter();
        let (Some(first), Some(second)) = (rewards.next(), rewards.next()) else { return Self::TooFew };
        if first == second && rewards.all(|reward| reward == first) { Self::Equal } else { Self::Alive }
    }
}

/// What estimators see of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rewarded {
    /// None: it is masked, and outside every mean, standard deviation and n.
    pub reward: Option<Reward>,
    /// Drawn tokens: what it weighs where tokens are averaged over.
    pub tokens: usize,
}

/// The advantages of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupAdvantages {
    /// One a rollout, none where it has no reward; all 0 unless the group is alive.
    pub advantages: Vec<Option<Advantage>>,
    /// Whether the group takes part in the policy term.
    pub life: Life,
}

/// The advantages of all groups of a step. Standard deviations are the sample's (n - 1), as in TRL and verl. A group with equal
/// rewards counts in what is taken over the whole step, and has no advantage itself (so in TRL; verl's whitening gives it one).
pub fn advantages(groups: &[Vec<Rewarded>], config: &AdvantageConfig) -> Vec<GroupAdvantages> {
    let estimate = match config.estimator {
        Estimator::Grpo => grpo::with_std(groups, config.eps),
        Estimator::GrpoWithoutStd => grpo::without_std(groups),
        Estimator::GrpoBatchStd => batch_std::estimate(groups, config.eps),
        Estimator::Rloo => rloo::estimate(groups),
        Estimator::ReinforcePlusPlus => reinforce_plus_plus::estimate(groups),
    };
    groups.iter().zip(estimate).map(|(group, of)| alive_only(group, of)).collect()
}

/// What an estimator makes of one reward of its group.
type Estimate<'a> = Box<dyn Fn(f64) -> f64 + 'a>;

fn alive_only(group: &[Rewarded], of: Estimate<'_>) -> GroupAdvantages {
    let life = Life::of(group.iter().filter_map(|rollout| rollout.reward));
    let advantage = |reward: Reward| Advantage(if life == Life::Alive { of(reward.0) } else { 0.0 });
    GroupAdvantages { advantages: group.iter().map(|rollout| rollout.reward.map(advantage)).collect(), life }
}

/// The rewards that a group has.
fn rewards(group: &[Rewarded]) -> Vec<f64> {
    group.iter().filter_map(|rollout| rollout.reward).map(|reward| reward.0).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample's standard deviation.
fn std(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}
