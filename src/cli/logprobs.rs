use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::config::Overrides;
use super::flags::Flags;
use super::model::{self, Loaded};
use super::output::Output;
use super::rows::{Place, Rows};
use crate::device::Device;
use crate::grpo::{Example, pack_examples};
use crate::qwen3::Keep;
use crate::tensor::Arena;
use crate::tokenizer::{ChatOptions, GenerationPrompt, Message, TokenId};
use crate::trainer::{Pass, PassLimits, TrainConfig, TrainError, log_probabilities};

/// Rows that are held at once.
const ROWS: usize = 256;

/// Log-probability of every token of given texts.
#[derive(Debug, Args)]
#[command(after_help = "\
In, one row a line:   {\"tokens\": [1, 2, 3]}  or  {\"text\": \"...\"}  or  {\"messages\": [{\"role\": \"user\", \"content\": \"...\"}]}
Out, one line a row:  {\"tokens\": [1, 2, 3], \"logprobs\": [null, -1.25, -0.5]}   nats; null: nothing precedes the first token
Control strings in \"text\" are plain letters; messages go through the model's chat template.

Example:  patarm logprobs --model DIR --in rows.jsonl > logprobs.jsonl")]
pub(super) struct LogProbs {
    /// Hugging Face folder of a Qwen3, Qwen2 or Llama model.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File of rows, JSON lines.
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// Where the lines go; without it standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Deserialize)]
struct Row {
    tokens: Option<Vec<u32>>,
    text: Option<String>,
    messages: Option<Vec<Message>>,
}

#[derive(Serialize)]
struct Line {
    tokens: Vec<u32>,
    logprobs: Vec<Option<f64>>,
}

impl LogProbs {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let config = self.flags.settings(&[], &[], overrides)?;
        self.flags.run(&config, |device| self.all(&config, device))
    }

    fn all(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let mut rows = Rows::<Row>::open(&self.input)?.peekable();
        let loaded = model::open(&self.model, &config.model, device)?;
        let mut out = Output::create(self.out.as_deref())?;
        while rows.peek().is_some() {
            let (mut some, mut tokens) = (Vec::new(), 0);
            while some.len() < ROWS && tokens < config.rl.leaf_tokens {
                let Some(row) = rows.next() else { break };
                let (place, row) = row?;
                some.push(row.tokens(&place, &loaded)?);
                tokens += some.last().map_or(0, Vec::len);
            }
            measure(&loaded, config, some)?.iter().try_for_each(|line| out.line(line))?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Row {
    fn tokens(self, place: &Place, loaded: &Loaded) -> Result<Vec<u32>> {
        let ids = |tokens: Vec<TokenId>| tokens.into_iter().map(|token| token.0).collect();
        let tokens: Vec<u32> = match (self.tokens, self.text, self.messages) {
            (Some(tokens), None, None) => tokens,
            (None, Some(text), None) => ids(loaded
                .tokenizer()?
                .encode(&text)
                .map_err(TrainError::from)
                .with_context(|| place.clone())?),
            (None, None, Some(messages)) => {
                let tokenizer = loaded.tokenizer()?;
                let whole =
                    ChatOptions { generation_prompt: GenerationPrompt::Omit, ..ChatOptions::default() };
                let encoded = tokenizer.encode_chat(&messages, &whole);
                ids(encoded.map_err(TrainError::from).with_context(|| place.clone())?)
            }
            _ => return Err(place.refuse("expected exactly one of `tokens`, `text` and `messages`").into()),
        };
        let config = &loaded.model.config;
        if let Some(id) = tokens.iter().find(|id| **id as usize >= config.vocabulary) {
            let reason = format!("token {id} is not in the model's vocabulary of {}", config.vocabulary);
            return Err(place.refuse(reason).into());
        }
        if tokens.len() > config.positions {
            let reason = format!("{} tokens, the model has {} positions", tokens.len(), config.positions);
            return Err(place.refuse(reason).into());
        }
        Ok(tokens)
    }
}

/// Runs rows through the model: the first token of each is its prompt, the others what is measured.
fn measure(loaded: &Loaded, config: &TrainConfig, rows: Vec<Vec<u32>>) -> Result<Vec<Line>> {
    let examples: Vec<Example<'_>> = rows
        .iter()
        .map(|tokens| tokens.split_at(tokens.len().min(1)))
        .map(|(prompt, completion)| Example { prompt, completion })
        .collect();
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let total: usize = rows.iter().map(Vec::len).sum();
    let capacity = config.rl.leaf_tokens.min(total).max(longest).max(1);
    let batch = pack_examples(&examples, capacity).map_err(TrainError::from)?;
    let Loaded { stream, model, .. } = loaded;
    let limits =
        PassLimits { rows: capacity, targets: capacity, tile: config.rl.tile_rows, keep: Keep::Nothing };
    let pass = |arena: &mut Arena| Pass::new(&model.config, model.dtype, limits, arena);
    let (_memory, mut pass) = model::exact(stream.device(), "pass", pass).map_err(TrainError::from)?;
    let mut measured: Vec<Vec<Option<f64>>> =
        rows.iter().map(|tokens| vec![None; tokens.len().min(1)]).collect();
    for leaf in &batch.leaves {
        let logprobs = log_probabilities(stream, model, leaf, 1.0, &mut pass)?;
        for (&row, logprob) in leaf.targets.sequence.iter().zip(logprobs) {
            measured[row as usize].push(Some(logprob));
        }
    }
    Ok(rows.into_iter().zip(measured).map(|(tokens, logprobs)| Line { tokens, logprobs }).collect())
}
