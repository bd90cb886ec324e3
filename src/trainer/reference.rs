use super::TrainError;
use super::learner::{self, Learner, Pass, PassLimits};
use super::step::Method;
use crate::device::range;
use crate::grpo::{self, Advantage, Group, Life, LossConfig, Scored, Sharing};
use crate::ops::head;
use crate::qwen3::Keep;
use crate::record::Rollout;
use crate::tensor::Arena;

/// ln p of every completion token under the reference, where a KL term asks for it.
pub(super) fn log_probabilities(
    learner: &mut Learner,
    method: Method<'_>,
    rollouts: &[Rollout],
    memory: &mut Arena,
) -> Result<Option<Vec<Vec<f32>>>, TrainError> {
    if !method.rl.asks_reference() {
        return Ok(None);
    }
    let _reference = range("reference");
    let all = rollouts.chunk_by(|a, b| a.group == b.group).map(|group| Group {
        rollouts: group
            .iter()
            .map(|rollout| Scored { rollout, advantage: Some(Advantage(0.0)), reference: None })
            .collect(),
        life: Life::Alive,
    });
    let plain = LossConfig::default();
    let batch = grpo::pack(&all.collect::<Vec<_>>(), &plain, Sharing::Prefix, method.rl.leaf_tokens)?;
    memory.reset();
    let limits = PassLimits { keep: Keep::Nothing, ..method.pass_limits() };
    let scale = head::inverse_temperature(method.rollout.sampling.temperature);
    let measured = learner.under_reference(|stream, model| -> Result<_, TrainError> {
        let mut pass = Pass::new(&model.config, model.dtype, limits, memory)?;
        let mut columns: Vec<Vec<f32>> = vec![Vec::new(); rollouts.len()];
        for leaf in &batch.leaves {
            method.stop.check()?;
            let logprobs = learner::log_probabilities(stream, model, leaf, scale, &mut pass)?;
            for (sequence, logprob) in leaf.targets.sequence.iter().zip(logprobs) {
                columns[*sequence as usize].push(logprob as f32);
            }
        }
        Ok(columns)
    });
    measured.transpose()
}
