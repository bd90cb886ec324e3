//! Recorded judgements once more: advantages, ratios, loss and gradient as a step takes them, with nothing updated.

use serde::Serialize;

use super::learner::{Learner, Objective, Pass};
use super::{RlConfig, TrainConfig, TrainError, credit};
use crate::device::Stream;
use crate::dims;
use crate::grpo::{
    self, Advantage, Counts, GroupAdvantages, GrpoError, Measured, Packed, Sharing, TrainBatch,
};
use crate::ops::grpo_loss::{LossGradient, LossSums, Ratio};
use crate::ops::head;
use crate::record::{JudgedRollout, RecordError, Rollout, Side};
use crate::reward::Reward;
use crate::tensor::{DType, Tensor};

/// What the judgements of one step come to, as one update on all of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// The step, as the run's metrics count it.
    pub step: u64,
    /// Version of the weights that drew the first judgement.
    pub weights_version: u64,
    /// The loss.
    pub loss: f64,
    /// Its policy term.
    pub policy: f64,
    /// Its KL term, coefficient included.
    pub kl: f64,
    /// Its entropy term, coefficient and sign included.
    pub entropy: f64,
    /// Global norm of the gradient before any clip; none without weights.
    pub grad_norm: Option<f64>,
    /// Mean ratio over the drawn tokens of live groups; the next four are over these too.
    pub ratio: f64,
    /// Share clipped below, above, and by the dual clip.
    pub clipped: [f64; 3],
    /// Mean estimate of the KL to the reference, nats; 0 without one.
    pub token_kl: f64,
    /// Mean entropy, nats.
    pub token_entropy: f64,
    /// Largest difference of a log-probability from the one at sampling: 0 where the same weights say the same to the bit.
    pub largest_gap: f64,
    /// What the KL term takes from a reward, on average.
    pub kl_penalty: f64,
    /// Groups: all, in the policy term, with fewer than two rewards, with equal rewards.
    pub groups: [usize; 4],
    /// Every judgement, in the order given.
    pub judgements: Vec<ReplayedJudgement>,
}

/// One judgement of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayedJudgement {
    /// Id of the pair.
    pub pair: String,
    /// The response that was judged.
    pub side: Side,
    /// Its group within the step.
    pub group: u32,
    /// Its reward as recorded; none where it is masked.
    pub reward: Option<f64>,
    /// None where it is masked.
    pub advantage: Option<f64>,
    /// The ratio that the loss clips at each drawn token; empty where the judgement is not in the batch.
    pub ratios: Vec<f64>,
    /// dL/dlogp at the same tokens.
    pub slopes: Vec<f64>,
}

/// Weights to measure the judgements with.
#[derive(Debug)]
pub struct Weights<'a> {
    /// The model; its gradients are overwritten, its weights stay.
    pub learner: &'a mut Learner,
    /// Buffers with room for a leaf.
    pub pass: &'a mut Pass,
}

/// Replays the judgements of one step. With weights all is measured anew by their forward and backward pass, in their dtype;
/// without, it is computed in f64 from what the record says of the policy.
///
/// # Errors
/// When groups are not whole, a KL term lacks its reference, or a judgement does not fit the model.
pub fn replay(
    stream: &Stream,
    judged: &[JudgedRollout],
    config: &TrainConfig,
    weights: Option<Weights<'_>>,
) -> Result<Replayed, TrainError> {
    let rl = &config.rl;
    check(judged, weights.as_ref())?;
    let rollouts: Vec<Rollout> = judged.iter().map(|one| one.rollout.clone()).collect();
    let rewards: Vec<Option<Reward>> = judged.iter().map(|one| one.reward.map(Reward)).collect();
    let reference: Option<Vec<Vec<f32>>> = judged.iter().map(|one| one.reference.clone()).collect();
    let (advantages, kl_penalty) = credit::assign(rl, &rollouts, &rewards, reference.as_deref())?;
    let groups = credit::groups(&rollouts, &advantages, reference.as_deref());
    let capacity = if weights.is_some() { rl.leaf_tokens } else { usize::MAX };
    let batch = grpo::pack(&groups, &rl.loss, Sharing::Prefix, capacity)?;
    let told = match weights {
        Some(weights) => weights.tell(rl, &batch, judged)?,
        None => recorded(stream, rl, &batch, judged)?,
    };
    let judgements = judgements(judged, &advantages, &told, rl);
    Ok(Replayed { kl_penalty, judgements, ..told.summary(config, judged, batch.counts) })
}

/// What a policy and the loss say of a batch; the columns have one entry a target.
struct Told {
    sums: LossSums,
    norm: Option<f64>,
    sequence: Vec<u32>,
    logprob: Vec<f64>,
    slope: Vec<f64>,
}

impl Told {
    fn summary(&self, config: &TrainConfig, judged: &[JudgedRollout], counts: Counts) -> Replayed {
        let (sums, first) = (&self.sums, judged.first().map(|one| &one.rollout));
        let mean = |sum: f64| sum / sums.tokens.max(1) as f64;
        let number = first.map_or(0, |rollout| rollout.seed.step);
        Replayed {
            step: config.sft.steps + number + 1,
            weights_version: first.map_or(0, |rollout| rollout.weights_version),
            loss: sums.loss,
            policy: sums.policy,
            kl: sums.kl,
            entropy: sums.entropy,
            grad_norm: self.norm,
            ratio: mean(sums.ratio),
            clipped: [sums.clipped_low, sums.clipped_high, sums.clipped_dual].map(|n| mean(n as f64)),
            token_kl: mean(sums.kl_estimate),
            token_entropy: mean(sums.token_entropy),
            largest_gap: sums.largest_gap,
            kl_penalty: 0.0,
            groups: [counts.groups, counts.alive, counts.too_few, counts.equal],
            judgements: Vec::new(),
        }
    }
}

/// Refuses what no step could have drawn, and what the model can't take.
fn check(judged: &[JudgedRollout], weights: Option<&Weights<'_>>) -> Result<(), TrainError> {
    let mut groups: Vec<u32> = judged.chunk_by(same_group).map(|group| group[0].rollout.group).collect();
    groups.sort_unstable();
    let apart = groups.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    let temperature = judged.first().map(|one| one.rollout.sampling.temperature);
    for one in judged {
        let Rollout { prompt, completion, group, sampling, .. } = &one.rollout;
        let unfit = |reason: String| Err(RecordError::Unfit { pair: one.pair.clone(), reason }.into());
        if apart == Some(*group) {
            return unfit(format!("group {group} does not stand together"));
        }
        if Some(sampling.temperature) != temperature {
            return unfit("drawn at another temperature than the step's first".into());
        }
        let Some(weights) = weights else { continue };
        let model = &weights.learner.model;
        let (length, positions) = (prompt.len() + completion.len(), model.rope.positions());
        if length > positions {
            return unfit(format!("{length} tokens, the model has {positions} positions"));
        }
        let unknown = prompt.iter().chain(completion).find(|id| id.0 as usize >= model.config.vocabulary);
        if let Some(id) = unknown {
            return unfit(format!("token {} is not in the model's vocabulary", id.0));
        }
    }
    Ok(())
}

fn same_group(a: &JudgedRollout, b: &JudgedRollout) -> bool {
    a.rollout.group == b.rollout.group
}

impl Weights<'_> {
    fn tell(self, rl: &RlConfig, batch: &TrainBatch, judged: &[JudgedRollout]) -> Result<Told, TrainError> {
        let Self { learner, pass } = self;
        let temperature = judged.first().map_or(1.0, |one| one.rollout.sampling.temperature);
        let inv_temperature = head::inverse_temperature(temperature);
        let objective = Objective::Policy { loss: &rl.loss, inv_temperature };
        // No record knows these weights by this number: nothing that it stored is taken for theirs.
        learner.version = u64::MAX;
        learner.zero_gradients()?;
        let (sums, norm) = (LossSums::default(), None);
        let mut told = Told { sums, norm, sequence: Vec::new(), logprob: Vec::new(), slope: Vec::new() };
        for leaves in batch.leaves.chunks(rl.leaves.max(1)) {
            let packed = Packed::join(leaves);
            learner.accumulate(&packed, objective, pass, &mut told.sums)?;
            let [logprob, slope] = pass.logprobs_and_slopes(packed.targets.ids.len())?;
            told.logprob.extend(logprob);
            told.slope.extend(slope);
            told.sequence.extend(&packed.targets.sequence);
        }
        told.norm = Some(learner.gradient_norm()?);
        Ok(told)
    }
}

/// The same from what the record says of the policy.
fn recorded(
    stream: &Stream,
    rl: &RlConfig,
    batch: &TrainBatch,
    judged: &[JudgedRollout],
) -> Result<Told, TrainError> {
    let packed = Packed::join(&batch.leaves);
    let (mut logprob, mut entropy) = (Vec::new(), Vec::new());
    for targets in packed.targets.sequence.chunk_by(|a, b| a == b) {
        let JudgedRollout { rollout, policy, .. } = &judged[targets[0] as usize];
        let (own, spread) = policy
            .as_ref()
            .map_or((&rollout.logprob, &rollout.entropy), |columns| (&columns.logprob, &columns.entropy));
        for (what, got) in [("policy log-probabilities", own.len()), ("policy entropies", spread.len())] {
            let (sequence, expected) = (targets[0], targets.len());
            if got != expected {
                return Err(GrpoError::Columns { sequence, what, got, expected }.into());
            }
        }
        logprob.extend(own.iter().map(|x| f64::from(*x)));
        entropy.extend(spread.iter().map(|x| f64::from(*x)));
    }
    let dims = dims![N: logprob.len()];
    let measured = [&logprob, &entropy].map(|values| Tensor::from_slice(values.as_slice(), dims));
    let measured = Measured { logprob: measured[0].view(), entropy: measured[1].view() };
    let [mut slope, mut dentropy] = [(); 2].map(|()| Tensor::zeros(DType::F64, dims));
    let out = LossGradient { dlogprob: slope.view_mut(), dentropy: dentropy.view_mut() };
    let mut sums = LossSums::default();
    if !logprob.is_empty() {
        grpo::evaluate(stream, &rl.loss, &packed, measured, out, &mut sums)?;
    }
    let slope = slope.view().to_f64();
    Ok(Told { sums, norm: None, sequence: packed.targets.sequence, logprob, slope })
}

fn judgements(
    judged: &[JudgedRollout],
    advantages: &[GroupAdvantages],
    told: &Told,
    rl: &RlConfig,
) -> Vec<ReplayedJudgement> {
    let advantages = advantages.iter().flat_map(|group| &group.advantages);
    let mut replayed: Vec<ReplayedJudgement> = judged
        .iter()
        .zip(advantages)
        .map(|(one, advantage)| ReplayedJudgement {
            pair: one.pair.clone(),
            side: one.side,
            group: one.rollout.group,
            reward: one.reward,
            advantage: advantage.map(|Advantage(advantage)| advantage),
            ratios: Vec::new(),
            slopes: Vec::new(),
        })
        .collect();
    let mut end = 0;
    for targets in told.sequence.chunk_by(|a, b| a == b) {
        let (start, sequence) = (end, targets[0] as usize);
        end += targets.len();
        let rollout = &judged[sequence].rollout;
        let drawn = |place: &usize| !rollout.forced.contains(&(*place as u32));
        let drawn: Vec<usize> = (0..targets.len()).filter(drawn).collect();
        let log_ratio = |place: &usize| told.logprob[start + place] - f64::from(rollout.logprob[*place]);
        replayed[sequence].ratios = ratios(drawn.iter().map(log_ratio).collect(), rl);
        replayed[sequence].slopes = drawn.iter().map(|place| told.slope[start + place]).collect();
    }
    replayed
}

/// From a sequence's log-ratios.
fn ratios(logs: Vec<f64>, rl: &RlConfig) -> Vec<f64> {
    match rl.loss.loss.variant().ratio {
        Ratio::Token => logs.into_iter().map(f64::exp).collect(),
        Ratio::Sequence => {
            let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
            vec![mean.exp(); logs.len()]
        }
    }
}
