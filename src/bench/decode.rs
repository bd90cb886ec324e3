use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{BenchError, Workload, carve, tokens};
use crate::device::{Device, Stream};
use crate::ops::kv_append::BLOCK;
use crate::qwen3::{Config, Model};
use crate::record::{Sampling, SeedKey};
use crate::rollout::{Engine, Limits, Request};
use crate::tensor::{DType, View};
use crate::tokenizer::TokenId;

/// What is decoded.
#[derive(Clone, Debug)]
pub struct DecodeShape {
    /// Shape of the model; its weights are random.
    pub config: Config,
    /// Storage.
    pub dtype: DType,
    /// Sequences drawn at once.
    pub batch: usize,
    /// Tokens of each prompt.
    pub prompt: usize,
    /// Measured steps: tokens drawn for each sequence.
    pub steps: usize,
}

/// Cached greedy decoding. Measured are steps after the prompt and the first two tokens.
pub struct Decode {
    shape: DecodeShape,
    stream: Stream,
    model: Model,
    engine: Engine,
    requests: Vec<Request>,
}

impl Decode {
    /// Random weights of seed 1.
    ///
    /// # Errors
    /// When memory does not hold the shape.
    pub fn new(device: &Device, shape: DecodeShape) -> Result<Self, BenchError> {
        let longest = shape.prompt + shape.steps + 2;
        let limits = Limits {
            tokens: (shape.batch * shape.prompt).min(512).max(shape.batch),
            sequences: shape.batch,
            blocks: shape.batch * (longest.div_ceil(BLOCK) + 1),
        };
        let (mut model, engine) = carve(device, |arena| {
            let model = Model::new(shape.config.clone(), shape.dtype, longest, arena)?;
            Ok((model, Engine::new(&shape.config, shape.dtype, limits, arena)?))
        })?;
        let stream = Stream::new(device.clone());
        model.initialise(&stream, 1)?;
        let requests = requests(&shape);
        Ok(Self { shape, stream, model, engine, requests })
    }
}

fn requests(shape: &DecodeShape) -> Vec<Request> {
    let ids = tokens(shape.batch * shape.prompt, shape.config.vocabulary);
    let request = |(group, prompt): (usize, &[u32])| Request {
        prompt: prompt.iter().map(|&id| TokenId(id)).collect(),
        group: group as u32,
        seeds: vec![SeedKey { group: group as u32, ..SeedKey::default() }],
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        stop: Arc::new([]),
        vocabulary: shape.config.vocabulary,
        max_new_tokens: shape.steps + 2,
        thought: None,
    };
    ids.chunks(shape.prompt).enumerate().map(request).collect()
}

impl Workload for Decode {
    fn what(&self) -> &'static str {
        "decode"
    }

    fn facts(&self) -> Map<String, Value> {
        let DecodeShape { config, dtype, batch, prompt, steps } = &self.shape;
        let facts = json!({
            "layers": config.layers, "hidden": config.hidden, "feed_forward": config.feed_forward,
            "vocabulary": config.vocabulary, "parameters": config.parameters(), "dtype": dtype,
            "batch": batch, "prompt": prompt, "steps": steps, "sampling": "greedy",
        });
        facts.as_object().cloned().unwrap_or_default()
    }

    fn device(&self) -> &Device {
        self.stream.device()
    }

    fn dtype(&self) -> DType {
        self.shape.dtype
    }

    fn weights(&self) -> Vec<View<'_>> {
        self.model.params.iter().map(|(_, tensor)| tensor.view()).collect()
    }

    fn flops(&self) -> f64 {
        2.0 * (self.shape.config.linear_parameters() * self.shape.batch * self.shape.steps) as f64
    }

    fn reads(&self) -> f64 {
        self.shape.steps as f64
    }

    fn repeat(&mut self) -> Result<(f64, usize, Map<String, Value>), BenchError> {
        let mut steps: Vec<(Instant, usize)> = Vec::new();
        let watch = &mut |_, drawn| {
            steps.extend((drawn > 0).then(|| (Instant::now(), drawn))); // the prompts' passes come before
            ControlFlow::Continue(())
        };
        let rollouts = self.engine.generate(&self.stream, &self.model, 0, &self.requests, watch)?;
        let expected = self.shape.batch * self.shape.steps;
        let ends = steps.first().zip(steps.last());
        let Some((&(start, before), &(end, after))) = ends.filter(|(a, b)| b.1 - a.1 == expected) else {
            let reason = format!("{} calls did not draw {expected} tokens after the first", steps.len());
            return Err(BenchError::Wrong { what: "decode", reason });
        };
        let first: Vec<u32> = rollouts[0].completion.iter().map(|token| token.0).collect();
        let more = Map::from_iter([("first_row".to_owned(), json!(first))]);
        Ok(((end - start).as_secs_f64(), after - before, more))
    }
}
