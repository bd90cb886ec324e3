//! The Bradley-Terry baseline: a scalar reward on the same base, the same judge prompts and the same pairs as PAR.
//!
//! r = w · h, with h the normed output [C] at the last token of the judge prompt and w the head's row of the end-of-sequence
//! token: a linear head without a parameter of its own, so what is trained stays an ordinary model folder.
//! loss = mean over the step's pairs of -ln sigmoid(r_chosen - r_rejected).

use super::learner::{Learner, Pass, PassLimits, rewards};
use super::{Gate, RlConfig, Stop, TrainError};
use crate::device::Stream;
use crate::evaluation::{PreparedPair, compare};
use crate::grpo::{self, Example, Packed};
use crate::optimizer::Update;
use crate::qwen3::{Keep, Model};
use crate::reward::Standing;
use crate::tensor::Arena;

/// What one step of the baseline came to.
#[derive(Clone, Debug)]
pub(super) struct BaselineStep {
    /// Mean over pairs, nats.
    pub(super) loss: f64,
    /// Packed rows.
    pub(super) tokens: usize,
    /// What became of the weights.
    pub(super) update: Update,
}

/// One step on `pairs`; `step` counts from 0.
pub(super) fn step(
    learner: &mut Learner,
    ((rl, token), gate, stop): ((&RlConfig, usize), Gate, Stop<'_>),
    pairs: &[&PreparedPair],
    step: u64,
    memory: &mut Arena,
) -> Result<BaselineStep, TrainError> {
    memory.reset();
    let mut pass = Pass::new(&learner.model.config, learner.model.dtype, rl.pass_limits(0), memory)?;
    learner.zero_gradients()?;
    let (mut loss, mut tokens, weight) = (0.0, 0, 1.0 / pairs.len() as f64);
    for leaf in leaves(pairs, token, rl.leaf_tokens)? {
        stop.check()?;
        tokens += leaf.tokens.len();
        loss += weight * learner.accumulate_pairs(&leaf, token, weight, &mut pass)?;
    }
    let update = learner.update(&rl.optimizer, step + 1, (loss, gate))?;
    Ok(BaselineStep { loss, tokens, update })
}

/// How the chosen response of every pair stands by its reward.
pub(super) fn standings(
    (stream, model): (&Stream, &Model),
    ((rl, token), stop): ((&RlConfig, usize), Stop<'_>),
    pairs: &[PreparedPair],
    memory: &mut Arena,
) -> Result<Vec<Standing>, TrainError> {
    memory.reset();
    let limits = PassLimits { keep: Keep::Nothing, ..rl.pass_limits(0) };
    let mut pass = Pass::new(&model.config, model.dtype, limits, memory)?;
    let mut standings = Vec::with_capacity(pairs.len());
    for leaf in leaves(&pairs.iter().collect::<Vec<_>>(), token, rl.leaf_tokens)? {
        stop.check()?;
        let rewards = rewards(stream, model, &leaf, token, &mut pass)?;
        standings.extend(rewards.chunks_exact(2).map(|pair| compare(Some(pair[0]), Some(pair[1]))));
    }
    Ok(standings)
}

/// Pairs packed whole, chosen before rejected, each side with `token` as its only target: the last row's.
fn leaves(pairs: &[&PreparedPair], token: usize, capacity: usize) -> Result<Vec<Packed>, TrainError> {
    let mut leaves = Vec::new();
    let mut open: Vec<[Vec<u32>; 2]> = Vec::new();
    let rows = |pair: &[Vec<u32>; 2]| pair[0].len() + pair[1].len();
    for pair in pairs {
        let pair = pair.prompts.each_ref().map(|prompt| prompt.iter().map(|token| token.0).collect());
        if open.iter().map(rows).sum::<usize>() + rows(&pair) > capacity {
            leaves.extend(leaf(&std::mem::take(&mut open), token, capacity)?);
        }
        open.push(pair);
    }
    leaves.extend(leaf(&open, token, capacity)?);
    Ok(leaves)
}

fn leaf(pairs: &[[Vec<u32>; 2]], token: usize, capacity: usize) -> Result<Vec<Packed>, TrainError> {
    let completion = &[token as u32];
    let examples: Vec<_> = pairs.iter().flatten().map(|prompt| Example { prompt, completion }).collect();
    Ok(grpo::pack_examples(&examples, capacity)?.leaves)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::{Device, Host};
    use crate::preference::PreferencePair;
    use crate::qwen3::{Config, ParamId};
    use crate::tensor::DType;
    use crate::tokenizer::TokenId;

    const SHAPE: &str = r#"{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 12,
        "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6,
        "vocab_size": 23, "max_position_embeddings": 64, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true, "initializer_range": 0.3}"#;
    const END: usize = 7;

    fn pair(chosen: &[u32], rejected: &[u32]) -> PreparedPair {
        let prompt = |ids: &[u32]| -> Arc<[TokenId]> { ids.iter().map(|id| TokenId(*id)).collect() };
        let nothing = r#"{"id": "a", "task": "chat", "messages": [], "chosen": "x", "rejected": "y"}"#;
        let pair: PreferencePair = serde_json::from_str(nothing).expect("a pair");
        PreparedPair { pair, prompts: [prompt(chosen), prompt(rejected)] }
    }

    fn learner() -> Learner {
        let config = Config::parse(SHAPE).expect("a shape");
        let device = Device::Host(Host::open(1).expect("one thread"));
        let mut arena = Arena::new("test", &device, 1 << 22);
        let mut model = Model::new(config, DType::F64, 64, &mut arena).expect("room");
        let stream = Stream::new(device);
        model.initialise(&stream, 5).expect("host");
        Learner::new(stream, model, crate::optimizer::Kept::default(), &mut arena).expect("room")
    }

    fn loss(learner: &Learner, leaf: &Packed, pass: &mut Pass) -> f64 {
        let rewards = rewards(&learner.stream, &learner.model, leaf, END, pass).expect("fits");
        rewards.chunks_exact(2).map(|pair| 0.5 * (1.0 + (pair[1] - pair[0]).exp()).ln()).sum()
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let mut learner = learner();
        let pairs = [pair(&[1, 2, 3, 4], &[1, 2, 5]), pair(&[9, 8, 7, 6, 5], &[9, 8, 20, 21])];
        let leaf = leaves(&pairs.each_ref(), END, 64).expect("fits").remove(0);
        let limits = PassLimits { rows: 64, targets: 64, tile: 512, keep: Keep::All };
        let mut memory = Arena::new("pass", learner.stream.device(), 1 << 22);
        let mut pass = Pass::new(&learner.model.config, DType::F64, limits, &mut memory).expect("room");
        learner.zero_gradients().expect("a CPU");
        let sum = learner.accumulate_pairs(&leaf, END, 0.5, &mut pass).expect("fits");
        assert!((0.5 * sum - loss(&learner, &leaf, &mut pass)).abs() < 1e-12);
        let ids: Vec<ParamId> = ParamId::all(&learner.model.config).collect();
        for id in ids {
            let gradient = learner.gradient(id).to_f64();
            let place = gradient.len() * 3 / 5;
            let mut at = |step: f64| {
                learner.model.params.get_mut(id).host_mut::<f64>()[place] += step;
                loss(&learner, &leaf, &mut pass)
            };
            let (up, down) = (at(1e-5), at(-2e-5));
            at(1e-5);
            let measured = (up - down) / 2e-5;
            assert!((measured - gradient[place]).abs() < 1e-8, "{id:?}: {measured} {}", gradient[place]);
        }
    }

    #[test]
    fn rewards_do_not_depend_on_how_pairs_are_cut_into_leaves() {
        let learner = learner();
        let pairs = [pair(&[1, 2, 3, 4], &[1, 2, 5]), pair(&[9, 8, 7, 6, 5], &[9, 8, 20, 21])];
        let limits = PassLimits { rows: 64, targets: 64, tile: 512, keep: Keep::Nothing };
        let mut memory = Arena::new("pass", learner.stream.device(), 1 << 22);
        let mut pass = Pass::new(&learner.model.config, DType::F64, limits, &mut memory).expect("room");
        let mut all = |capacity| -> Vec<f64> {
            let leaves = leaves(&pairs.each_ref(), END, capacity).expect("fits");
            let of =
                |leaf: &Packed| rewards(&learner.stream, &learner.model, leaf, END, &mut pass).expect("fits");
            leaves.iter().flat_map(of).collect()
        };
        assert_eq!(all(64).len(), 4);
        assert_eq!(all(64), all(9));
    }
}
