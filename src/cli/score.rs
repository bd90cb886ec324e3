use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bad_rows::BadRows;
use super::config::Overrides;
use super::flags::{Flags, quoted};
use super::model;
use super::output::{Output, say};
use super::rows::{Id, InputError, Place, Rejects, Rows, Said};
use crate::device::{Device, Stream};
use crate::evaluation::{Judge, Reading, Subject};
use crate::preference::{self, Reason, RowError};
use crate::qwen3::Model;
use crate::record::SeedKey;
use crate::rollout::Request;
use crate::rubric::{FailureKind, GeneratedCriterion, Remark, RubricSet};
use crate::tokenizer::{ChatOptions, Message, Role};
use crate::trainer::{TrainConfig, TrainError};

/// Responses that are judged together.
const ROWS: usize = 32;

/// One judgement a response is the most likely one, unless a file or a flag says otherwise.
const GREEDY: &str = "[evaluation.sampling]\ntemperature = 0.0";

/// Judge responses, each alone: a score from 1 to 10 with the judge's reasons.
#[derive(Debug, Args)]
#[command(after_help = "\
In, one row a line:  {\"prompt\": \"...\", \"response\": \"...\"}            with \"messages\" in place of \"prompt\", \"task\", \"id\" if you like
                or:  {\"prompt\": \"...\", \"chosen\": \"...\", \"rejected\": \"...\"}   TRL's preference rows; also .gz, .zst, .parquet, a folder
Out, one line a judgement, in the rows' order:
  {\"id\", \"side\", \"task\", \"sample\", \"score\", \"mean\", \"failure\", \"text\", \"rubric\", \"remarks\"}
  score is null and failure says why where the judge kept to no grammar; mean is over the row's valid scores.

Example:  patarm score --model runs/train/model --in answers.jsonl --out judgements.jsonl")]
pub(super) struct Score {
    /// Hugging Face folder of the judge.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows: responses (JSON lines) or preference pairs.
    #[arg(long = "in", value_name = "PATH")]
    input: PathBuf,
    /// Where the lines go; without it standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Judgements of each response; more than one need a temperature above 0.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Softmax temperature; 0: greedy [default: 0].
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Longest judgement, tokens [default: 64].
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Folder of task files that replace or add to the built-in rubrics (the demo's judge: models/demo/tasks).
    #[arg(long, value_name = "DIR")]
    rubrics: Option<PathBuf>,
    #[command(flatten)]
    bad_rows: BadRows,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: Option<Id>,
    task: Option<String>,
    prompt: Option<Said>,
    messages: Option<Vec<Message>>,
    response: String,
}

/// One response to be judged.
struct Item {
    id: Value,
    side: Option<&'static str>,
    task: String,
    messages: Vec<Message>,
    response: String,
    place: String,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<&'static str>,
    task: &'a str,
    sample: usize,
    score: Option<f64>,
    mean: Option<f64>,
    failure: Option<FailureKind>,
    text: &'a str,
    rubric: &'a [GeneratedCriterion],
    remarks: &'a [Remark],
}

impl Score {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let typed = [
            ("evaluation.sampling.temperature", self.temperature.map(|t| t.to_string())),
            ("rollout.max_new_tokens", self.max_new_tokens.map(|n| n.to_string())),
            ("data.rubrics", quoted(&self.rubrics)),
            self.bad_rows.setting(),
        ];
        let config = self.flags.settings(&[("greedy judgements", GREEDY)], &typed, overrides)?;
        if self.samples > 1 && config.evaluation.sampling.temperature == 0.0 {
            anyhow::bail!(
                "--samples {}: greedy judgements are all the same; add --temperature 1",
                self.samples
            );
        }
        self.flags.run(&config, |device| self.all(&config, device))
    }

    fn all(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let (items, rejects) = items(&self.input, config)?;
        self.bad_rows.keep(&rejects)?;
        let rubric = rubrics(config.data.rubrics.as_deref(), RubricSet::builtin())?;
        let loaded = model::open(&self.model, &config.model, device)?;
        let (stream, model, tokenizer) = loaded.into_tokenizer()?;
        let max_new_tokens = config.rollout.max_new_tokens;
        let judge = Judge { rubric, tokenizer, chat: ChatOptions::default(), max_new_tokens };
        let mut out = Output::create(self.out.as_deref())?;
        let mut done = 0;
        for some in items.chunks(ROWS) {
            let readings = self.judge(&judge, (&stream, &model), config, (some, done))?;
            for (item, readings) in some.iter().zip(readings.chunks(self.samples as usize)) {
                lines(item, readings).try_for_each(|line| out.line(&line))?;
            }
            done += some.len() as u32;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn judge(
        &self,
        judge: &Judge,
        (stream, model): (&Stream, &Model),
        config: &TrainConfig,
        (items, first): (&[Item], u32),
    ) -> Result<Vec<Reading>> {
        let requests = (first..).zip(items).map(|(group, item)| -> Result<Request> {
            let subject = Subject { task: &item.task, messages: &item.messages, response: &item.response };
            let prompt = judge.prompt(subject).map_err(TrainError::from);
            let prompt = prompt.with_context(|| item.place.clone())?;
            model::fits(&prompt, &config.rollout, model).with_context(|| item.place.clone())?;
            let key = |sample| SeedKey { run: config.seed, step: 0, group, sample };
            let seeds = (0..self.samples).map(key).collect();
            Ok(judge.request(prompt, group, seeds, config.evaluation.sampling))
        });
        let requests = requests.collect::<Result<Vec<Request>>>()?;
        let rollouts = model::generate(stream, model, &config.rollout, &requests)?;
        Ok(rollouts.iter().map(|rollout| judge.read(rollout)).collect())
    }
}

/// The built-in rubrics, with those of a folder in their place.
pub(super) fn rubrics(folder: Option<&Path>, own: RubricSet) -> Result<RubricSet, TrainError> {
    Ok(match folder {
        Some(folder) => own.replaced_by(RubricSet::from_dir(folder)?),
        None => own,
    })
}

fn lines<'a>(item: &'a Item, readings: &'a [Reading]) -> impl Iterator<Item = Line<'a>> {
    let scores: Vec<f64> =
        readings.iter().filter_map(|r| Some(r.verdict.as_ref().ok()?.score.value())).collect();
    let mean = (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64);
    readings.iter().enumerate().map(move |(sample, reading)| {
        let verdict = reading.verdict.as_ref();
        Line {
            id: &item.id,
            side: item.side,
            task: &item.task,
            sample,
            score: verdict.ok().map(|verdict| verdict.score.value()),
            mean,
            failure: verdict.err().map(|error| error.kind()),
            text: &reading.text,
            rubric: verdict.map_or(&[], |verdict| &verdict.rubric),
            remarks: verdict.map_or(&[], |verdict| &verdict.eval),
        }
    })
}

/// Responses of a file, or both sides of every pair of a file or folder; then the rows that are neither.
fn items(path: &Path, config: &TrainConfig) -> Result<(Vec<Item>, Vec<RowError>)> {
    if !holds_pairs(path)? {
        let mut rejects = Rejects::new(config.data.skip_bad);
        let mut items = Vec::new();
        for row in Rows::<Row>::open(path)? {
            match row.and_then(|(place, row)| row.item(&place, &config.data.task)) {
                Ok(item) => items.push(item),
                Err(error) => rejects.take(error.into())?,
            }
        }
        return Ok((items, rejects.rows));
    }
    let dataset = preference::read(path, &config.data.read_options()).map_err(TrainError::from)?;
    if dataset.duplicates > 0 {
        say(&format!("{}: {} duplicate rows are judged once", path.display(), dataset.duplicates));
    }
    let sides = dataset.pairs.into_iter().flat_map(|pair| {
        [("chosen", pair.chosen), ("rejected", pair.rejected)].map(|(side, response)| {
            let (task, messages) = (pair.task.clone(), pair.messages.clone());
            let place = format!("pair {}, {side}", pair.id);
            Item { id: pair.id.clone().into(), side: Some(side), task, messages, response, place }
        })
    });
    Ok((sides.collect(), dataset.rejects))
}

/// Whether a file or folder holds preference pairs rather than responses, by its name or else by its first sound row.
fn holds_pairs(path: &Path) -> Result<bool, InputError> {
    #[derive(Deserialize)]
    struct Form {
        chosen: Option<IgnoredAny>,
    }
    let name = path.to_string_lossy();
    if path.is_dir() || [".gz", ".zst", ".parquet"].iter().any(|end| name.ends_with(end)) {
        return Ok(true);
    }
    Ok(Rows::<Form>::open(path)?.find_map(Result::ok).is_some_and(|(_, form)| form.chosen.is_some()))
}

impl Row {
    fn item(self, place: &Place, task: &str) -> Result<Item, InputError> {
        let messages = match (self.prompt, self.messages) {
            (Some(said), None) => said.turns(Role::User),
            (None, Some(turns)) => turns,
            _ => return Err(place.refuse("expected either `prompt` or `messages` beside `response`")),
        };
        if messages.iter().all(|message| message.content.trim().is_empty()) {
            return Err(place.bad("prompt", Reason::EmptyPrompt));
        }
        if self.response.trim().is_empty() {
            return Err(place.bad("response", Reason::EmptyResponse));
        }
        let (id, task) =
            (self.id.map_or(place.line.into(), |id| id.0), self.task.unwrap_or_else(|| task.to_owned()));
        Ok(Item { id, side: None, task, messages, response: self.response, place: place.to_string() })
    }
}
