//! REINFORCE++ with a group's baseline: deviations from the group's mean, whitened over the step, where a rollout counts once a
//! token. verl's arithmetic to the letter, its small numbers included; a group with a single reward, which verl lets count with
//! the reward as its own deviation, stays outside.

use super::{Estimate, Life, Rewarded, mean, rewards};

/// verl adds it to the number of tokens and to the variance.
const EPS: f64 = 1e-8;

pub(super) fn estimate(groups: &[Vec<Rewarded>]) -> Vec<Estimate<'_>> {
    let whitening = Whitening::of(groups);
    let estimate = |group: &Vec<Rewarded>| -> Estimate<'_> {
        let mean = mean(&rewards(group));
        Box::new(move |reward| (reward - mean - whitening.mean) / whitening.std)
    };
    groups.iter().map(estimate).collect()
}

#[derive(Clone, Copy)]
struct Whitening {
    mean: f64,
    std: f64,
}

impl Whitening {
    fn of(groups: &[Vec<Rewarded>]) -> Self {
        let deviations: Vec<(f64, f64)> = groups.iter().flat_map(|group| deviations(group)).collect();
        let tokens: f64 = deviations.iter().map(|(_, tokens)| tokens).sum();
        let average = |of: &dyn Fn(f64) -> f64| {
            deviations.iter().map(|(value, tokens)| of(*value) * tokens).sum::<f64>() / (tokens + EPS)
        };
        let mean = average(&|value| value);
        let variance = average(&|value| (value - mean).powi(2)) * tokens / (tokens - 1.0);
        Self { mean, std: (variance + EPS).sqrt() }
    }
}

/// Each reward's deviation from its group's mean, with the tokens that it counts for.
fn deviations(group: &[Rewarded]) -> Vec<(f64, f64)> {
    let rewards = rewards(group);
    if Life::of(group.iter().filter_map(|rollout| rollout.reward)) == Life::TooFew {
        return Vec::new();
    }
    let mean = mean(&rewards);
    let with_tokens = |rollout: &Rewarded| Some((rollout.reward?.0 - mean, rollout.tokens as f64));
    group.iter().filter_map(with_tokens).collect()
}
