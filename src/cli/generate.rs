use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Overrides;
use super::flags::Flags;
use super::model::{self, Loaded};
use super::output::Output;
use super::rows::{Id, InputError, Rows, Said};
use crate::device::Device;
use crate::record::{Finish, SeedKey};
use crate::rollout::Request;
use crate::tokenizer::{ChatOptions, Message, Role, Specials, TokenId, Tokenizer};
use crate::trainer::{TrainConfig, TrainError};

/// Rows that are sampled together.
const ROWS: usize = 32;

/// Continue prompts.
#[derive(Debug, Args)]
#[command(after_help = "\
In, one row a line:   {\"prompt\": \"...\"}  or  {\"messages\": [{\"role\": \"user\", \"content\": \"...\"}]}; an \"id\" comes back
Out, one line a row:  {\"id\": 1, \"text\": \"...\", \"tokens\": [..], \"finish\": \"stop\"}   finish is length where the limit came first
A prompt is a user's turn in the model's chat template; with --raw it is continued as it stands.
A single --prompt on a terminal prints the text alone.

Example:  patarm generate --model DIR --prompt \"What is 2 + 2?\" --temperature 0.7")]
pub(super) struct Generate {
    /// Hugging Face folder of a Qwen3, Qwen2 or Llama model.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// One prompt.
    #[arg(long, value_name = "TEXT", required_unless_present = "input", conflicts_with = "input")]
    prompt: Option<String>,
    /// File of rows, JSON lines.
    #[arg(long = "in", id = "input", value_name = "FILE")]
    input: Option<PathBuf>,
    /// Where the lines go; without it standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Continue text prompts as they stand, without the chat template.
    #[arg(long)]
    raw: bool,
    /// Softmax temperature; 0: greedy [default: 1].
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Draw from the K most likely tokens; 0: from all [default: 0].
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Draw from the smallest set that holds this share of probability [default: 1].
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Leave out tokens less likely than this times the most likely one [default: 0].
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Longest continuation, tokens [default: 64].
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: Option<Id>,
    prompt: Option<Said>,
    messages: Option<Vec<Message>>,
}

#[derive(Serialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    text: String,
    tokens: Vec<TokenId>,
    finish: Finish,
}

impl Generate {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let typed = [
            ("rollout.sampling.temperature", self.temperature.map(|t| t.to_string())),
            ("rollout.sampling.top_k", self.top_k.map(|k| k.to_string())),
            ("rollout.sampling.top_p", self.top_p.map(|p| p.to_string())),
            ("rollout.sampling.min_p", self.min_p.map(|p| p.to_string())),
            ("rollout.max_new_tokens", self.max_new_tokens.map(|n| n.to_string())),
        ];
        let config = self.flags.settings(&[], &typed, overrides)?;
        self.flags.run(&config, |device| self.all(&config, device))
    }

    fn all(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let mut rows = self.input.as_deref().map(Rows::<Row>::open).transpose()?;
        let loaded = model::open(&self.model, &config.model, device)?;
        let mut out = Output::create(self.out.as_deref())?;
        if let Some(text) = &self.prompt {
            let row = Row { id: None, prompt: Some(Said::Text(text.clone())), messages: None };
            let row = self.tokens(row, loaded.tokenizer()?)?;
            model::fits(&row.1, config.rollout.max_new_tokens, &loaded.model)?;
            let line = sample(&loaded, config, vec![row], 0)?.remove(0);
            let plain = self.out.is_none() && std::io::stdout().is_terminal();
            if plain { out.text(&line.text)? } else { out.line(&line)? }
        }
        let mut done = 0;
        while let Some(rows) = &mut rows {
            let some = rows.take(ROWS).map(|row| {
                let (place, row) = row?;
                let row = self.tokens(row, loaded.tokenizer()?).with_context(|| place.clone())?;
                model::fits(&row.1, config.rollout.max_new_tokens, &loaded.model).with_context(|| place)?;
                Ok(row)
            });
            let some = some.collect::<Result<Vec<_>>>()?;
            if some.is_empty() {
                break;
            }
            let count = some.len() as u32;
            sample(&loaded, config, some, done)?.iter().try_for_each(|line| out.line(line))?;
            done += count;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn tokens(&self, row: Row, tokenizer: &Tokenizer) -> Result<(Option<Value>, Vec<TokenId>)> {
        let tokens = match (row.prompt, row.messages) {
            (Some(Said::Text(text)), None) if self.raw => tokenizer.encode(&text),
            (Some(said), None) => tokenizer.encode_chat(&said.turns(Role::User), &ChatOptions::default()),
            (None, Some(turns)) => tokenizer.encode_chat(&turns, &ChatOptions::default()),
            _ => return Err(InputError::Form("expected either `prompt` or `messages`").into()),
        };
        let tokens = tokens
            .map_err(TrainError::from)
            .context("prompt (with --raw a text is continued as it stands)")?;
        Ok((row.id.map(|id| id.0), tokens))
    }
}

/// Draws one continuation of each row; `first` is the number of the first one in its file.
fn sample(
    loaded: &Loaded,
    config: &TrainConfig,
    rows: Vec<(Option<Value>, Vec<TokenId>)>,
    first: u32,
) -> Result<Vec<Line>> {
    let tokenizer = loaded.tokenizer()?;
    let stop: Arc<[TokenId]> = tokenizer.eos().into();
    let request = |(group, prompt): (u32, &[TokenId])| Request {
        prompt: prompt.into(),
        group,
        seeds: vec![SeedKey { run: config.seed, step: 0, group, sample: 0 }],
        sampling: config.rollout.sampling,
        stop: stop.clone(),
        vocabulary: tokenizer.vocab_size(),
        max_new_tokens: config.rollout.max_new_tokens,
        thought: None,
    };
    let requests: Vec<Request> =
        (first..).zip(rows.iter().map(|(_, prompt)| prompt.as_slice())).map(request).collect();
    let rollouts = model::generate(&loaded.stream, &loaded.model, &config.rollout, &requests)?;
    let lines = rows.into_iter().zip(rollouts).map(|((id, _), rollout)| {
        let end = usize::from(rollout.finish == Finish::Stop);
        let said = &rollout.completion[..rollout.completion.len() - end];
        let text = tokenizer.decode(said, Specials::Keep);
        Line { id, text, tokens: rollout.completion, finish: rollout.finish }
    });
    Ok(lines.collect())
}
