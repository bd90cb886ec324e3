//! The updates of a step: minibatches, epochs, and what sampling stored about them.

use super::learner::{Learner, Objective, Pass};
use super::step::Method;
use super::{RlConfig, Stop, TrainError};
use crate::grpo::{self, Group, Packed, Sharing, TrainBatch};
use crate::ops::grpo_loss::LossSums;
use crate::ops::head;
use crate::optimizer::Update;
use crate::tensor::Arena;

/// What one optimizer update of a step came to.
#[derive(Clone, Debug)]
pub struct Updated {
    /// Loss, KL, clipping, entropy, largest difference from the behaviour policy.
    pub sums: LossSums,
    /// What became of the weights.
    pub update: Update,
}

/// Packs a step's groups by minibatch, each normalised in itself.
///
/// # Errors
/// As [`grpo::pack`].
pub fn pack(groups: &[Group<'_>], rl: &RlConfig) -> Result<Vec<TrainBatch>, TrainError> {
    let minibatches = groups.chunks(groups.len().div_ceil(rl.minibatches).max(1));
    let pack = |groups| grpo::pack(groups, &rl.loss, Sharing::Prefix, rl.leaf_tokens);
    Ok(minibatches.map(pack).collect::<Result<_, _>>()?)
}

/// The updates of a step: every minibatch in order, epoch after epoch. What sampling stored holds for the first of them only: the
/// others measure the policy anew. `step` counts from 0.
///
/// # Errors
/// When an operator refuses, or the run should end before the first update: then the weights are as before.
pub fn learn(
    learner: &mut Learner,
    method: Method<'_>,
    batches: &[TrainBatch],
    step: u64,
    memory: &mut Arena,
) -> Result<Vec<Updated>, TrainError> {
    memory.reset();
    let mut pass = Pass::new(&learner.model.config, learner.model.dtype, method.pass_limits(), memory)?;
    let first = step * method.rl.updates() + 1;
    let numbered = (first..).zip((0..method.rl.epochs).flat_map(|_| batches));
    let updates = numbered.map(|(number, batch)| {
        // Once weights have changed a run that ends here could not draw this step again.
        let stop = if number == first { method.stop } else { Stop::NEVER };
        update(learner, Method { stop, ..method }, batch, number, &mut pass)
    });
    updates.collect()
}

/// One update; `number` counts from 1 through the run.
fn update(
    learner: &mut Learner,
    method: Method<'_>,
    batch: &TrainBatch,
    number: u64,
    pass: &mut Pass,
) -> Result<Updated, TrainError> {
    let inv_temperature = head::inverse_temperature(method.rollout.sampling.temperature);
    let objective = Objective::Policy { loss: &method.rl.loss, inv_temperature };
    learner.zero_gradients()?;
    let mut sums = LossSums::default();
    for leaves in batch.leaves.chunks(method.rl.leaves.max(1)) {
        method.stop.check()?;
        learner.accumulate(&Packed::join(leaves), objective, pass, &mut sums)?;
    }
    let update = learner.update(&method.rl.optimizer, number, (sums.loss, method.gate))?;
    Ok(Updated { sums, update })
}
