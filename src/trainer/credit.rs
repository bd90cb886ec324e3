//! What each judgement of a step is credited with: its reward, less the KL term, against its group's.

use super::{RlConfig, TrainError};
use crate::grpo::{self, Group, GroupAdvantages, Rewarded, Scored};
use crate::record::Rollout;
use crate::reward::Reward;

/// The advantages of neighbouring rollouts of one group, and what the KL term takes from a reward on average. `rewards` has one
/// entry a rollout, none where it is masked; so has `reference`: ln p of every token.
pub(super) fn assign(
    rl: &RlConfig,
    rollouts: &[Rollout],
    rewards: &[Option<Reward>],
    reference: Option<&[Vec<f32>]>,
) -> Result<(Vec<GroupAdvantages>, f64), TrainError> {
    let (mut rewarded, mut taken) = (Vec::with_capacity(rollouts.len()), Vec::new());
    for (i, (rollout, reward)) in rollouts.iter().zip(rewards).enumerate() {
        let mut reward = *reward;
        if let Some(Reward(reward)) = &mut reward {
            let columns = reference.map(|columns| columns[i].as_slice());
            let penalty = rl.reward_kl.penalty(i as u32, rollout, columns)?;
            *reward -= penalty;
            taken.push(penalty);
        }
        rewarded.push(Rewarded { reward, tokens: rollout.drawn() });
    }
    let mut rest = rewarded.into_iter();
    let of_group = |group: &[Rollout]| rest.by_ref().take(group.len()).collect();
    let groups: Vec<Vec<Rewarded>> = rollouts.chunk_by(|a, b| a.group == b.group).map(of_group).collect();
    let mean = taken.iter().sum::<f64>() / taken.len().max(1) as f64;
    Ok((grpo::advantages(&groups, &rl.advantage), mean))
}

/// Rollouts with their advantages and reference log-probabilities, by prompt.
pub(super) fn groups<'a>(
    rollouts: &'a [Rollout],
    advantages: &[GroupAdvantages],
    reference: Option<&'a [Vec<f32>]>,
) -> Vec<Group<'a>> {
    let mut rollouts = rollouts.iter().enumerate();
    let group = |of: &GroupAdvantages| {
        let scored = of.advantages.iter().zip(&mut rollouts).map(|(advantage, (i, rollout))| Scored {
            rollout,
            advantage: *advantage,
            reference: reference.map(|columns| columns[i].as_slice()),
        });
        Group { rollouts: scored.collect(), life: of.life }
    };
    advantages.iter().map(group).collect()
}
