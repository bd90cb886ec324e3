use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{BenchError, Workload, carve, tokens};
use crate::device::{Device, DeviceError, Stream};
use crate::dims;
use crate::ops::Leaves;
use crate::ops::adamw::{Param, Rounding};
use crate::ops::attention::{Source, Span};
use crate::ops::head::{self, Coefficients, HeadGradient, HeadInput, Logprobs, Lse};
use crate::optimizer::{Decay, OptimizerConfig, Parameter, Update, update};
use crate::qwen3::{
    Accumulate, Activations, BackwardBuffers, BackwardPass, Config, Keep, Model, Packed, Params, backward,
    forward,
};
use crate::tensor::{Arena, ArenaError, DType, Tensor, View};

/// What is trained.
#[derive(Clone, Debug)]
pub struct TrainShape {
    /// Shape of the model; its weights start random.
    pub config: Config,
    /// Storage of weights and activations.
    pub dtype: DType,
    /// Sequences of one step.
    pub sequences: usize,
    /// Tokens of each.
    pub length: usize,
    /// What the forward pass keeps.
    pub keep: Keep,
    /// Rows of the head's tile.
    pub tile: usize,
}

/// One optimizer step on next-token prediction: forward, head, backward, clip, AdamW.
pub struct TrainStep {
    shape: TrainShape,
    stream: Stream,
    memory: Memory,
    batch: Packed,
    leaves: Leaves,
    optimizer: OptimizerConfig,
    steps: u64,
}

/// Every tensor of a step.
struct Memory {
    model: Model,
    gradients: Params,
    moments: [Params; 2],
    master: Option<Params>,
    activations: Activations,
    backward: BackwardBuffers,
    scratch: head::Scratch,
    /// Gradient of the hidden rows.
    hidden: Tensor,
    targets: Tensor,
    /// dL/dlogp of each row.
    weights: Tensor,
    /// Log-probability, LSE, entropy.
    logprobs: [Tensor; 3],
}

impl Memory {
    fn new(shape: &TrainShape, arena: &mut Arena) -> Result<Self, ArenaError> {
        let TrainShape { config: c, dtype, .. } = shape;
        let (n, sums) = (shape.sequences * shape.length, dtype.accumulator());
        let master = (*dtype != sums).then(|| Params::uniform(c, sums, arena)).transpose()?;
        let mut row = || arena.tensor(sums, dims![N: n]);
        let (weights, logprobs) = (row()?, [row()?, row()?, row()?]);
        Ok(Self {
            model: Model::new(c.clone(), *dtype, shape.length, arena)?,
            gradients: Params::uniform(c, sums, arena)?,
            moments: [Params::uniform(c, sums, arena)?, Params::uniform(c, sums, arena)?],
            master,
            activations: Activations::new(c, *dtype, shape.keep, n, arena)?,
            backward: BackwardBuffers::new(c, *dtype, n, arena)?,
            scratch: head::Scratch::new(arena, *dtype, shape.tile, c.vocabulary)?,
            hidden: arena.tensor(*dtype, dims![N: n, C: c.hidden])?,
            targets: arena.tensor(DType::U32, dims![N: n])?,
            weights,
            logprobs,
        })
    }
}

impl TrainStep {
    /// Random weights of seed 1, next-token targets; the last token of a sequence has none and weighs 0.
    ///
    /// # Errors
    /// When memory does not hold the shape.
    pub fn new(device: &Device, shape: TrainShape) -> Result<Self, BenchError> {
        if shape.dtype.accumulator() != DType::F32 {
            let reason = format!("no benchmark in {:?}: take f32 or bf16", shape.dtype);
            return Err(BenchError::Wrong { what: "train_step", reason });
        }
        let stream = Stream::new(device.clone());
        let mut memory = carve(device, |arena| Memory::new(&shape, arena))?;
        memory.model.initialise(&stream, 1)?;
        if let Some(master) = &mut memory.master {
            for ((_, to), (_, from)) in master.iter_mut().zip(memory.model.params.iter()) {
                to.view_mut().write_f64(from.view().read()?.into_iter())?;
            }
        }
        let n = shape.sequences * shape.length;
        let batch = packed(&shape);
        let mut targets = batch.tokens.clone();
        targets.rotate_left(1);
        memory.targets.view_mut().write_ids(&targets)?;
        let each = -1.0 / (shape.sequences * (shape.length - 1)) as f32;
        let last = |row: usize| (row + 1).is_multiple_of(shape.length);
        let weights: Vec<f32> = (0..n).map(|row| if last(row) { 0.0 } else { each }).collect();
        memory.weights.view_mut().write(&weights)?;
        let optimizer =
            OptimizerConfig { lr: 1e-5, beta2: 0.95, weight_decay: 0.1, ..OptimizerConfig::default() };
        Ok(Self { shape, stream, memory, batch, leaves: Leaves::one(n), optimizer, steps: 0 })
    }

    fn step(&mut self) -> Result<(), BenchError> {
        let Self { stream, memory: m, batch, leaves, .. } = self;
        let n = batch.len();
        m.gradients.zero()?;
        forward(stream, &m.model, batch, &mut m.activations, None)?;
        let head = m.model.params.head_id();
        let input = HeadInput {
            x: m.activations.hidden(n),
            w: m.model.params.get(head),
            targets: m.targets.view(),
            inv_temperature: 1.0,
        };
        let [logprob, lse, entropy] = m.logprobs.each_mut().map(Tensor::view_mut);
        let fresh = Lse::Fresh(Logprobs { logprob, lse, entropy });
        let coefficients = Coefficients { dlogprob: m.weights.view(), dentropy: None };
        let out = HeadGradient { dx: m.hidden.view_mut(), dw: m.gradients.find_mut(head) };
        head::gradient(stream, input, coefficients, fresh, (leaves, &mut m.scratch), out)?;
        let pass = BackwardPass { stream, model: &m.model, batch, leaves };
        let sink = &mut Accumulate(&mut m.gradients);
        backward(pass, m.hidden.view(), &mut m.activations, &mut m.backward, sink)?;
        self.update()
    }

    fn update(&mut self) -> Result<(), BenchError> {
        self.steps += 1;
        let Memory { model, gradients, moments: [first, second], master, .. } = &mut self.memory;
        let names: Vec<String> = model.params.iter().map(|(id, _)| id.name()).collect();
        let mut masters = master.iter_mut().flat_map(|master| master.iter_mut());
        let tensors =
            model.params.iter_mut().zip(gradients.iter()).zip(first.iter_mut()).zip(second.iter_mut());
        let parameters = tensors.zip(&names).map(|(((((id, w), (_, g)), (_, m)), (_, v)), name)| Parameter {
            name,
            param: Param {
                w: w.view_mut(),
                g: g.view(),
                m: m.view_mut(),
                v: v.view_mut(),
                scales: None,
                master: masters.next().filter(|_| !id.is_vector()).map(|(_, tensor)| tensor.view_mut()),
            },
            decay: if id.is_vector() { Decay::No } else { Decay::Yes },
            rounding: Rounding::Nearest,
        });
        match update(&self.stream, &self.optimizer, self.steps, parameters)? {
            Update::Applied { .. } => Ok(()),
            left_out => {
                let reason = format!("no update: {left_out:?}");
                Err(BenchError::Wrong { what: "train_step", reason })
            }
        }
    }

    /// Mean negative log-probability of the last step's targets.
    fn loss(&self) -> Result<f64, DeviceError> {
        let logprobs = self.memory.logprobs[0].view().read()?;
        let weights = self.memory.weights.view().read()?;
        Ok(logprobs.iter().zip(weights).map(|(l, w)| l * w).sum())
    }
}

fn packed(shape: &TrainShape) -> Packed {
    let n = shape.sequences * shape.length;
    let spans = (0..shape.sequences).map(|s| Span {
        queries: s * shape.length..(s + 1) * shape.length,
        start: 0,
        source: Source::Packed { parent: None },
    });
    Packed {
        tokens: tokens(n, shape.config.vocabulary),
        positions: (0..n).map(|row| (row % shape.length) as u32).collect(),
        spans: spans.collect(),
        slots: Vec::new(),
    }
}

impl Workload for TrainStep {
    fn what(&self) -> &'static str {
        "train_step"
    }

    fn facts(&self) -> Map<String, Value> {
        let TrainShape { config, dtype, sequences, length, keep, tile } = &self.shape;
        let facts = json!({
            "layers": config.layers, "hidden": config.hidden, "feed_forward": config.feed_forward,
            "vocabulary": config.vocabulary, "parameters": config.parameters(), "dtype": dtype,
            "sequences": sequences, "length": length, "keep": keep, "tile": tile, "flops": self.flops(),
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
        self.memory.model.params.iter().map(|(_, tensor)| tensor.view()).collect()
    }

    /// Six a weight and token, and six H D a layer, token and key, half of which are masked.
    fn flops(&self) -> f64 {
        let (c, n) = (&self.shape.config, (self.shape.sequences * self.shape.length) as f64);
        let attention = (c.layers * c.query_width() * self.shape.length) as f64;
        6.0 * n * (c.linear_parameters() as f64 + attention)
    }

    fn reads(&self) -> f64 {
        1.0
    }

    fn repeat(&mut self) -> Result<(f64, usize, Map<String, Value>), BenchError> {
        let start = Instant::now();
        self.step()?;
        self.stream.sync()?;
        let seconds = start.elapsed().as_secs_f64();
        let more = Map::from_iter([("loss".to_owned(), json!(self.loss()?))]);
        Ok((seconds, self.batch.len(), more))
    }
}
