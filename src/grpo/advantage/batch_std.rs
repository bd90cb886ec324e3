//! The group's mean with the standard deviation of all rewards of the step: groups that hardly differ inside are not blown up.

use super::{Estimate, Rewarded, mean, rewards, std};

pub(super) fn estimate(groups: &[Vec<Rewarded>], eps: f64) -> Vec<Estimate<'_>> {
    let divisor = std(&groups.iter().flat_map(|group| rewards(group)).collect::<Vec<f64>>()) + eps;
    let estimate = |group: &Vec<Rewarded>| -> Estimate<'_> {
        let mean = mean(&rewards(group));
        Box::new(move |reward| (reward - mean) / divisor)
    };
    groups.iter().map(estimate).collect()
}
