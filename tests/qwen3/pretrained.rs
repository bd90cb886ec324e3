//! What published weights are asked: greedy continuations, and the log-probability of given tokens.

use std::path::Path;
use std::sync::Arc;

use patarm::checkpoint::{ModelFolder, Scan};
use patarm::device::Stream;
use patarm::grpo::{Example, pack_examples};
use patarm::qwen3::{Config, Keep, Model};
use patarm::record::{Sampling, SeedKey};
use patarm::rollout::{Engine, Limits, Request};
use patarm::tensor::{Arena, ArenaError, DType};
use patarm::tokenizer::TokenId;
use patarm::trainer::{Pass, PassLimits, log_probabilities};

use super::golden::stream;

/// A model in f32 that is read only.
pub(crate) struct Pretrained {
    pub(crate) stream: Stream,
    pub(crate) model: Model,
}

/// Carves something twice: over an arena that counts, then over one of exactly that size.
fn exact<T>(stream: &Stream, carve: impl Fn(&mut Arena) -> Result<T, ArenaError>) -> T {
    let mut planned = Arena::planned("plan");
    drop(carve(&mut planned).expect("a plan is never full"));
    carve(&mut Arena::new("test", stream.device(), planned.peak())).expect("planned")
}

impl Pretrained {
    pub(crate) fn open(folder: &Path, positions: usize) -> Self {
        let folder = ModelFolder::open(folder).expect("a sound folder");
        let (stream, config) = (stream(), Config::of(&folder).expect("a family that is known"));
        let mut model = exact(&stream, |arena| Model::new(config.clone(), DType::F32, positions, arena));
        model.read(&folder, Scan::Finite).expect("every weight");
        Self { stream, model }
    }

    /// The most likely tokens after each prompt, all prompts in one batch.
    pub(crate) fn greedy(&self, prompts: &[Vec<u32>], stop: &[u32], most: usize) -> Vec<Vec<u32>> {
        let config = &self.model.config;
        let ids = |tokens: &[u32]| tokens.iter().map(|&id| TokenId(id)).collect::<Arc<[_]>>();
        let request = |(group, prompt): (u32, &Vec<u32>)| Request {
            prompt: ids(prompt),
            group,
            seeds: vec![SeedKey { run: 0, step: 0, group, sample: 0 }],
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            stop: ids(stop),
            vocabulary: config.vocabulary,
            max_new_tokens: most,
            thought: None,
        };
        let requests: Vec<_> = (0..).zip(prompts).map(request).collect();
        let lengths: Vec<_> = prompts.iter().map(Vec::len).collect();
        let limits = Limits { tokens: 512, sequences: 16, blocks: 256 }.fitting(&lengths, 1, most);
        let mut engine = exact(&self.stream, |arena| Engine::new(config, DType::F32, limits, arena));
        let rollouts = engine.generate(&self.stream, &self.model, 0, &requests, &mut |_, _| {
            std::ops::ControlFlow::Continue(())
        });
        let completion = |tokens: &[TokenId]| tokens.iter().map(|id| id.0).collect();
        rollouts.expect("served").iter().map(|rollout| completion(&rollout.completion)).collect()
    }

    /// ln p of every token but the first.
    pub(crate) fn logprobs(&self, tokens: &[u32]) -> Vec<f64> {
        let (prompt, completion) = tokens.split_at(1);
        let batch =
            pack_examples(&[Example { prompt, completion }], tokens.len()).expect("one leaf holds it");
        let limits = PassLimits { rows: tokens.len(), targets: tokens.len(), tile: 64, keep: Keep::Nothing };
        let mut pass = exact(&self.stream, |arena| Pass::new(&self.model.config, DType::F32, limits, arena));
        log_probabilities(&self.stream, &self.model, &batch.leaves[0], 1.0, &mut pass).expect("fits")
    }
}
