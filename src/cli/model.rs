use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};

use super::rows::InputError;
use crate::checkpoint::{CheckpointError, ModelFolder};
use crate::device::{Device, Stream};
use crate::evaluation::{Judge, Spellings};
use crate::qwen3::{Config, Model, kv_pool_dims};
use crate::record::Rollout;
use crate::rollout::{Engine, Limits, Request, Sampler};
use crate::tensor::{Arena, ArenaError};
use crate::tokenizer::{TokenId, Tokenizer, TokenizerError};
use crate::trainer::{ModelConfig, RolloutConfig, TrainError};

/// Most bytes of keys and values, unless one request alone needs more.
const KV_BYTES: usize = 2 << 30;

/// Targets whose probabilities are computed together.
const TARGETS: usize = 64;

/// A model that is read and never trained.
pub(super) struct Loaded {
    pub(super) stream: Stream,
    pub(super) model: Model,
    /// The folder's tokenizer, or why there is none.
    tokenizer: Result<Tokenizer, TokenizerError>,
}

/// Reads a Hugging Face folder, and the adapter on top of it that the settings name, into exactly the memory that it needs.
pub(super) fn open(path: &Path, settings: &ModelConfig, device: Device) -> Result<Loaded> {
    let (dtype, scan) = (settings.dtype.storage(), settings.scan);
    let read = || -> Result<Loaded, TrainError> {
        let folder = ModelFolder::open(path)?;
        let mut config = Config::of(&folder)?;
        config.check_folder(&folder)?;
        let adapter = settings.adapter()?;
        config.adapter = adapter.as_ref().map(|(_, low)| low.clone());
        let tokenizer = Tokenizer::from_dir(path);
        let known = tokenizer.as_ref().map_or(0, Tokenizer::vocab_size);
        if known > config.vocabulary {
            let reason =
                format!("its tokenizer knows {known} tokens, config.json says {}", config.vocabulary);
            return Err(CheckpointError::Malformed { path: path.to_owned(), reason }.into());
        }
        let model = |arena: &mut Arena| Model::new(config.clone(), dtype, config.positions, arena);
        let (_memory, mut model) = exact(&device, "model", model)?;
        model.read(&folder, scan)?;
        if let Some((folder, _)) = &adapter {
            model.read_adapter(folder, scan)?;
        }
        Ok(Loaded { stream: Stream::new(device), model, tokenizer })
    };
    read().with_context(|| format!("--model {}", path.display()))
}

/// Carves something twice: over an arena that counts, then over one of exactly that size.
pub(super) fn exact<T>(
    device: &Device,
    name: &'static str,
    carve: impl Fn(&mut Arena) -> Result<T, ArenaError>,
) -> Result<(Arena, T), ArenaError> {
    let mut planned = Arena::planned(name);
    drop(carve(&mut planned)?);
    let mut arena = Arena::sized(name, device, planned.peak())?;
    let carved = carve(&mut arena)?;
    Ok((arena, carved))
}

impl Loaded {
    /// The tokenizer; an error that says what the folder lacks.
    pub(super) fn tokenizer(&self) -> Result<&Tokenizer, ModelError> {
        self.tokenizer.as_ref().map_err(|error| ModelError(error.to_string()))
    }

    /// Takes the tokenizer out.
    pub(super) fn into_tokenizer(self) -> Result<(Stream, Model, Tokenizer)> {
        let tokenizer = self.tokenizer.map_err(TrainError::from).context("the model's tokenizer")?;
        Ok((self.stream, self.model, tokenizer))
    }
}

/// Something that the model's folder lacks.
#[derive(Debug, thiserror::Error)]
#[error("the model's tokenizer: {0}")]
pub(super) struct ModelError(String);

/// Refuses a prompt that is empty, or that leaves the model no room for `answer` tokens.
pub(super) fn fits(prompt: &[TokenId], answer: usize, model: &Model) -> Result<(), InputError> {
    let longest = prompt.len() + answer;
    match model.rope.positions() {
        _ if prompt.is_empty() => Err(InputError::Form("the prompt is empty")),
        _ if answer == 0 => Err(InputError::Form("rollout.max_new_tokens is 0: nothing is asked for")),
        room if longest > room => Err(InputError::TooLong { longest, room }),
        _ => Ok(()),
    }
}

/// Sizes for sampling from `model`: as configured, but no larger than these prompts can use.
fn limits(model: &Model, config: &RolloutConfig, prompts: &[usize], each: Each) -> Limits {
    let block = kv_pool_dims(&model.config, 1).count() * model.dtype.size();
    let blocks = config.kv_blocks.min((KV_BYTES / block).max(1));
    let mut limits = Limits { blocks, ..config.limits() }.fitting(prompts, each.samples, each.longest);
    if each.tree > 0 {
        let longest = prompts.iter().max().copied().unwrap_or(0) + each.longest;
        limits.tokens = limits.tokens.max(longest + each.tree);
        limits.sequences = limits.sequences.max(TARGETS.min(config.sequences));
    }
    limits
}

/// What one prompt can need.
#[derive(Clone, Copy)]
pub(super) struct Each {
    /// Sequences drawn from it.
    samples: usize,
    /// Tokens of each.
    longest: usize,
    /// Rows of a pass for what may follow it, beside those of the sequence itself.
    tree: usize,
}

impl Each {
    /// So many judgements.
    pub(super) fn of(judge: &Judge, judgements: u32) -> Self {
        let tree = judge.spellings.as_ref().map_or(0, Spellings::rows);
        Self { samples: judgements.max(1) as usize, longest: judge.longest(), tree }
    }
}

/// Carves an engine, in memory of its own, that suits these prompts.
pub(super) fn engine(
    (stream, model): (&Stream, &Model),
    config: &RolloutConfig,
    prompts: &[usize],
    each: Each,
) -> Result<(Arena, Engine)> {
    let limits = limits(model, config, prompts, each);
    let engine = |arena: &mut Arena| Engine::new(&model.config, model.dtype, limits, arena);
    Ok(exact(stream.device(), "sampling", engine).map_err(TrainError::from)?)
}

/// Samples from a model in memory that suits the requests.
pub(super) fn generate(
    stream: &Stream,
    model: &Model,
    config: &RolloutConfig,
    requests: &[Request],
) -> Result<Vec<Rollout>> {
    let prompts: Vec<usize> = requests.iter().map(|request| request.prompt.len()).collect();
    let most = |f: fn(&Request) -> usize| requests.iter().map(f).max().unwrap_or(1);
    let each = Each { samples: most(|r| r.seeds.len()), longest: most(|r| r.max_new_tokens), tree: 0 };
    let (_memory, engine) = engine((stream, model), config, &prompts, each)?;
    let mut sampler = Sampler { stream, model, weights_version: 0, engine };
    Ok(sampler.generate(requests, &mut |_, _| ControlFlow::Continue(())).map_err(TrainError::from)?)
}
