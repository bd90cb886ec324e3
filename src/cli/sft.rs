use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;

use super::bad_rows::BadRows;
use super::config::Overrides;
use super::flags::{Flags, quoted};
use super::going::Going;
use super::lora::Lora;
use super::observer::Terminal;
use super::output::{Output, say};
use super::rows::{InputError, Place, Rejects, Rows, Said};
use crate::checkpoint::ModelFolder;
use crate::device::Device;
use crate::qwen3::Config;
use crate::tokenizer::{ChatOptions, GenerationPrompt, Message, Role, TokenId, Tokenizer};
use crate::trainer::sft::SftRow;
use crate::trainer::{Setup, TrainConfig, TrainError};

/// There is nothing to judge.
const ROWS_ONLY: &str = "[rl]\nsteps = 0\n";

/// Teach a model to write given completions.
#[derive(Debug, Args)]
#[command(after_help = "\
In, one row a line:  {\"prompt\": \"...\", \"completion\": \"...\"}   as they stand, an end-of-text token after the completion
                or:  {\"prompt\": [{\"role\": \"user\", \"content\": \"...\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"...\"}]}
                or:  {\"messages\": [..]}   the last turn is the completion; turns go through the model's chat template
Out:  one line a step on standard output; at the end DIR/model, a Hugging Face folder, with --lora DIR/adapter
Only completion tokens are learned. Settings: sft.steps, sft.rows, sft.optimizer.lr (default 2e-3 suits small fresh models).

Example:  patarm sft --model DIR --data rows.jsonl --out runs/sft --sft.steps 100 --sft.optimizer.lr 1e-5")]
pub(super) struct Sft {
    /// Hugging Face folder of a Qwen3, Qwen2 or Llama model.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File of rows, JSON lines.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Run folder: settings, metrics, checkpoints; at the end `model` or, with --lora, `adapter`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    going: Going,
    #[command(flatten)]
    lora: Lora,
    #[command(flatten)]
    bad_rows: BadRows,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Deserialize)]
struct Row {
    prompt: Option<Said>,
    completion: Option<Said>,
    messages: Option<Vec<Message>>,
}

impl Sft {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let [rank, alpha, targets] = self.lora.settings();
        let typed =
            [("model.path", quoted(&Some(&self.model))), self.bad_rows.setting(), rank, alpha, targets];
        let config = self.flags.settings(&[("rows to read, and no pairs", ROWS_ONLY)], &typed, overrides)?;
        config.check()?;
        self.flags.run(&config, |device| self.learn(&config, device))
    }

    fn learn(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let (folder, signals) = self.going.open(&self.out, config, &device)?;
        let of_model = || format!("--model {}", self.model.display());
        let weights = ModelFolder::open(&self.model).map_err(TrainError::from).with_context(of_model)?;
        let mut shape = Config::of(&weights).map_err(TrainError::from).with_context(of_model)?;
        shape.adapter = config.low_rank()?;
        let tokenizer = Tokenizer::from_dir(&self.model).map_err(TrainError::from).with_context(of_model)?;
        let rows = self.rows(config, &shape, &tokenizer)?;
        say(&format!("{} rows", rows.len()));
        let setup = Setup::of_rows(config, (shape, weights), tokenizer, rows)?;
        let mut folder = folder.with_setup(setup.judge.tokenizer.files(), &setup.data.hash);
        let terminal = Terminal::new(config.sft.steps, signals).with_lines(Output::create(None)?);
        let begun = self.going.begin((config, &setup), device, &mut folder, terminal);
        let (mut run, mut terminal) = begun.with_context(of_model)?;
        run.train(&mut folder, &mut terminal)?;
        say(&run.export(&folder)?.display().to_string());
        Ok(ExitCode::SUCCESS)
    }

    fn rows(&self, config: &TrainConfig, shape: &Config, tokenizer: &Tokenizer) -> Result<Vec<SftRow>> {
        let room = config.rl.leaf_tokens.min(shape.positions);
        let (mut rows, mut rejects) = (Vec::new(), Rejects::new(config.data.skip_bad));
        for row in Rows::<Row>::open(&self.data)? {
            let row = row.map_err(anyhow::Error::from);
            match row.and_then(|(place, row)| row.fitting(&place, tokenizer, room)) {
                Ok(row) => rows.push(row),
                Err(error) => rejects.take(error)?,
            }
        }
        self.bad_rows.keep(&rejects.rows)?;
        match rows.is_empty() {
            true => {
                Err(anyhow::Error::new(InputError::Form("holds no row"))
                    .context(self.data.display().to_string()))
            }
            false => Ok(rows),
        }
    }
}

impl Row {
    /// Prompt and completion, of at most `room` tokens together.
    fn fitting(self, place: &Place, tokenizer: &Tokenizer, room: usize) -> Result<SftRow> {
        let row = self.tokens(place, tokenizer)?;
        match row.prompt.len() + row.completion.len() {
            length if length > room => {
                let limits = "(rl.leaf_tokens, the model's positions)";
                Err(place.refuse(format!("{length} tokens, at most {room} fit {limits}")).into())
            }
            _ => Ok(row),
        }
    }

    fn tokens(self, place: &Place, tokenizer: &Tokenizer) -> Result<SftRow> {
        let encode =
            |text: &str| tokenizer.encode(text).map_err(TrainError::from).with_context(|| place.clone());
        let (prompt, completion) = match (self.prompt, self.completion, self.messages) {
            (Some(Said::Text(prompt)), Some(Said::Text(completion)), None) => {
                let mut completion = encode(&completion)?;
                completion.extend(tokenizer.eos().first());
                (encode(&prompt)?, completion)
            }
            (Some(prompt), Some(completion), None) => {
                turns(prompt.turns(Role::User), completion.turns(Role::Assistant), place, tokenizer)?
            }
            (None, None, Some(mut messages)) => {
                let last = messages.pop().ok_or_else(|| place.refuse("`messages` is empty"))?;
                turns(messages, vec![last], place, tokenizer)?
            }
            _ => return Err(place.refuse("expected `prompt` and `completion`, or `messages`").into()),
        };
        if prompt.is_empty() || completion.is_empty() {
            return Err(place.refuse("prompt and completion need at least one token each").into());
        }
        let ids = |tokens: Vec<TokenId>| tokens.into_iter().map(|token| token.0).collect();
        Ok(SftRow { prompt: ids(prompt), completion: ids(completion) })
    }
}

/// Prompt and completion of a conversation: what the chat template writes before the model speaks, and what comes after.
fn turns(
    prompt: Vec<Message>,
    completion: Vec<Message>,
    place: &Place,
    tokenizer: &Tokenizer,
) -> Result<(Vec<TokenId>, Vec<TokenId>)> {
    let chat = |messages: &[Message], generation_prompt| {
        let options = ChatOptions { generation_prompt, ..ChatOptions::default() };
        tokenizer.encode_chat(messages, &options).map_err(TrainError::from).with_context(|| place.clone())
    };
    let opened = chat(&prompt, GenerationPrompt::Add)?;
    let whole = chat(&[prompt, completion].concat(), GenerationPrompt::Omit)?;
    let completion = whole.strip_prefix(opened.as_slice());
    let completion = completion.ok_or_else(|| {
        place.refuse("the chat template writes the prompt otherwise once it is answered; give prompt and completion as text")
    })?;
    Ok((opened.clone(), completion.to_vec()))
}
