//! Leave one out: r - (sum of the others) / (n - 1) = (r - mean) n / (n - 1).

use super::{Estimate, Rewarded, mean, rewards};

pub(super) fn estimate(groups: &[Vec<Rewarded>]) -> Vec<Estimate<'_>> {
    let estimate = |group: &Vec<Rewarded>| -> Estimate<'_> {
        let rewards = rewards(group);
        let (mean, n) = (mean(&rewards), rewards.len() as f64);
        Box::new(move |reward| (reward - mean) * n / (n - 1.0))
    };
    groups.iter().map(estimate).collect()
}
