//! Steps as TRL and verl take them (tests/golden/replay.py), as rollouts.

use std::sync::Arc;

use patarm::record::{Finish, Rollout, Sampling, SeedKey};
use patarm::tokenizer::TokenId;
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) batches: Vec<Batch>,
    pub(crate) overlong: Vec<Overlong>,
}

#[derive(Deserialize)]
pub(crate) struct Overlong {
    pub(crate) limit: usize,
    pub(crate) cache: usize,
    pub(crate) lengths: Vec<usize>,
    pub(crate) penalties: Vec<f64>,
}

pub(crate) type Matrix = Vec<Vec<f64>>;

#[derive(Deserialize)]
pub(crate) struct Batch {
    pub(crate) name: String,
    pub(crate) inputs: Inputs,
    lengths: Vec<usize>,
    groups: Vec<u32>,
    pub(crate) rewards: Vec<Option<f64>>,
    pub(crate) cases: Vec<Case>,
    pub(crate) reward_kl: Map<String, Value>,
}

#[derive(Deserialize)]
pub(crate) struct Inputs {
    mask: Matrix,
    pub(crate) logprob: Matrix,
    pub(crate) old_logprob: Matrix,
    pub(crate) reference_logprob: Matrix,
    pub(crate) entropy: Matrix,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Settings of reinforcement learning, by their dotted names.
    pub(crate) settings: Map<String, Value>,
    pub(crate) on_policy: bool,
    pub(crate) advantages: Vec<f64>,
    pub(crate) loss: f64,
    /// dL/dlogp of the tokens that count.
    pub(crate) d_logprob: Matrix,
}

pub(crate) fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/replay.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Batch {
    /// The first tokens of a row, as a record keeps them: the numbers were rounded to f32 before the reference saw them.
    pub(crate) fn column(&self, matrix: &Matrix, sequence: usize) -> Vec<f32> {
        matrix[sequence][..self.lengths[sequence]].iter().map(|x| *x as f32).collect()
    }

    /// Sequence `sequence` as it was drawn; a hole in its mask is a token that was not.
    pub(crate) fn rollout(&self, sequence: usize, behaviour: &Matrix) -> Rollout {
        let (length, group) = (self.lengths[sequence], self.groups[sequence]);
        let mask = &self.inputs.mask[sequence][..length];
        let holes = (0..length as u32).filter(|i| mask[*i as usize] == 0.0);
        Rollout {
            prompt: Arc::from([TokenId(group)]),
            group,
            completion: (0..length as u32).map(TokenId).collect(),
            logprob: self.column(behaviour, sequence),
            lse: vec![1.0; length],
            entropy: self.column(&self.inputs.entropy, sequence),
            forced: holes.collect(),
            sampling: Sampling::default(),
            weights_version: 0,
            seed: SeedKey { run: 1, step: 0, group, sample: sequence as u32 },
            finish: Finish::Stop,
        }
    }
}

/// Every element within 1e-10 of the reference, as a share of 1 or of the reference, whichever is larger.
pub(crate) fn assert_close(what: &str, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{what}: element {i} is {a:e}, not {b:e}");
    }
}
