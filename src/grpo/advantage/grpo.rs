//! GRPO's own: the mean and, unless it is left out, the standard deviation of the group.

use super::{Estimate, Rewarded, mean, rewards, std};

pub(super) fn with_std(groups: &[Vec<Rewarded>], eps: f64) -> Vec<Estimate<'_>> {
    let estimate = |group: &Vec<Rewarded>| -> Estimate<'_> {
        let rewards = rewards(group);
        let (mean, divisor) = (mean(&rewards), std(&rewards) + eps);
        Box::new(move |reward| (reward - mean) / divisor)
    };
    groups.iter().map(estimate).collect()
}

pub(super) fn without_std(groups: &[Vec<Rewarded>]) -> Vec<Estimate<'_>> {
    let estimate = |group: &Vec<Rewarded>| -> Estimate<'_> {
        let mean = mean(&rewards(group));
        Box::new(move |reward| reward - mean)
    };
    groups.iter().map(estimate).collect()
}
