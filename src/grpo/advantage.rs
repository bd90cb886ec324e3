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
}

/// Settings of the estimator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvantageConfig {
    /// Default grpo.
    pub estimator: Estimator,
    /// Added to the standard deviation, above 0. Default 1e-4 (TRL; verl has 1e-6).
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

/// The advantages of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupAdvantages {
    /// One a rollout, none where it has no reward; all 0 unless the group is alive.
    pub advantages: Vec<Option<Advantage>>,
    /// Whether the group takes part in the policy term.
    pub life: Life,
}

/// The advantages of one group's rewards. Rollouts without a reward are outside mean, standard deviation and n. The standard
/// deviation is the sample's (n - 1), as in TRL and verl.
pub fn advantages(rewards: &[Option<Reward>], config: &AdvantageConfig) -> GroupAdvantages {
    let valid: Vec<f64> = rewards.iter().flatten().map(|reward| reward.0).collect();
    let life = match valid.as_slice() {
        [] | [_] => Life::TooFew,
        [first, rest @ ..] if rest.iter().all(|reward| reward == first) => Life::Equal,
        _ => Life::Alive,
    };
    let (mean, divisor) = moments(&valid, config);
    let of = |reward: Reward| Advantage(if life == Life::Alive { (reward.0 - mean) / divisor } else { 0.0 });
    GroupAdvantages { advantages: rewards.iter().map(|reward| reward.map(of)).collect(), life }
}

/// The mean and what deviations from it are divided by.
fn moments(rewards: &[f64], config: &AdvantageConfig) -> (f64, f64) {
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n;
    let divisor = match config.estimator {
        Estimator::GrpoWithoutStd => 1.0,
        Estimator::Grpo => {
            let squares: f64 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
            (squares / (n - 1.0)).sqrt() + config.eps
        }
    };
    (mean, divisor)
}
