use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::bad_rows::BadRows;
use super::config::Overrides;
use super::flags::{Flags, quoted};
use super::items::{self, Item};
use super::judging::JudgingFlags;
use super::model::{self, Each};
use super::output::Output;
use super::progress::Progress;
use crate::device::{Device, Stream};
use crate::evaluation::{Expected, Judge, Judging, Mode, PreparedPair, Reading, Readings, Subject, Vote};
use crate::preference::PreferencePair;
use crate::qwen3::Model;
use crate::reward::{Judgement, Standing};
use crate::rollout::{RolloutError, Sampler};
use crate::rubric::{FailureKind, GeneratedCriterion, PairVerdict, Remark, RubricSet};
use crate::tokenizer::TokenId;
use crate::trainer::{TrainConfig, TrainError};

/// Responses, or pairs, that are judged together.
const ROWS: usize = 32;

/// One judgement a response, the most likely one, unless a file or a flag says otherwise.
const GREEDY: &str = "[evaluation]\njudgements = 1\n[evaluation.sampling]\ntemperature = 0.0";

/// Judge responses: a score from 1 to 10 with the judge's reasons.
#[derive(Debug, Args)]
#[command(after_help = "\
In, one row a line:  {\"prompt\": \"...\", \"response\": \"...\"}            with \"messages\" in place of \"prompt\", \"task\", \"id\" if you like
                or:  {\"prompt\": \"...\", \"chosen\": \"...\", \"rejected\": \"...\"}   TRL's preference rows; also .gz, .zst, .parquet, a folder
Out, one line a judgement, in the rows' order:
  {\"id\", \"side\", \"task\", \"sample\", \"score\", \"voted\", \"mean\", \"failure\", \"text\", \"rubric\", \"remarks\"}
  score is null and failure says why where the judge kept to no grammar; voted and mean are over the row's valid scores.
  With --reading expected there are two more, expected and mass: the mean over all scores that could stand there, each by its
  probability, and the sum of these; voted is then the mean of expected over the row's judgements.
With --mode pairwise rows are pairs, and a line is
  {\"id\", \"order\", \"task\", \"sample\", \"chosen\", \"rejected\", \"winner\", \"failure\", \"text\", \"rubric\", \"remarks\"}
  order says which response was shown first; chosen and rejected are this judgement's scores, winner is the pair's, over all.

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
    /// Folder of task files that replace or add to the built-in rubrics (the demo's judge: models/demo/tasks).
    #[arg(long, value_name = "DIR")]
    rubrics: Option<PathBuf>,
    #[command(flatten)]
    judging: JudgingFlags,
    #[command(flatten)]
    bad_rows: BadRows,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<&'static str>,
    task: &'a str,
    sample: usize,
    score: Option<f64>,
    #[serde(flatten)]
    expected: Option<Weighed>,
    voted: Option<f64>,
    mean: Option<f64>,
    failure: Option<FailureKind>,
    text: &'a str,
    rubric: &'a [GeneratedCriterion],
    remarks: &'a [Remark],
}

#[derive(Serialize)]
struct Weighed {
    expected: f64,
    mass: f64,
}

#[derive(Serialize)]
struct PairLine<'a> {
    id: &'a str,
    order: &'static str,
    task: &'a str,
    sample: usize,
    chosen: Option<f64>,
    rejected: Option<f64>,
    winner: Option<&'static str>,
    failure: Option<FailureKind>,
    text: &'a str,
    rubric: &'a [GeneratedCriterion],
    remarks: &'a [Remark],
}

/// What rows are judged with.
struct Bench<'a> {
    config: &'a TrainConfig,
    judge: Judge,
    stream: Stream,
    model: Model,
    how: Judging,
    out: Output,
    progress: Progress,
}

impl Score {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let mut typed = self.judging.settings().to_vec();
        typed.extend([("data.rubrics", quoted(&self.rubrics)), self.bad_rows.setting()]);
        let config = self.flags.settings(&[("one greedy judgement", GREEDY)], &typed, overrides)?;
        self.judging.check(&config)?;
        self.flags.run(&config, |device| self.all(&config, device))
    }

    fn all(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let how = config.evaluation.judging(config.seed);
        let (responses, pairs, rejects) = match how.mode {
            Mode::Pointwise => {
                let (responses, rejects) = items::responses(&self.input, config)?;
                (responses, Vec::new(), rejects)
            }
            Mode::Pairwise => {
                let (pairs, rejects) = items::pairs(&self.input, config)?;
                (Vec::new(), pairs, rejects)
            }
        };
        self.bad_rows.keep(&rejects)?;
        let rubric = rubrics(config.data.rubrics.as_deref(), RubricSet::builtin())?;
        let loaded = model::open(&self.model, &config.model, device)?;
        let (stream, model, tokenizer) = loaded.into_tokenizer()?;
        let judge = config.judge(rubric, tokenizer)?;
        let out = Output::create(self.out.as_deref())?;
        let prompts = responses.len() + 2 * pairs.len();
        let progress = Progress::new(prompts * how.judgements as usize);
        let mut bench = Bench { config, judge, stream, model, how, out, progress };
        for (some, number) in responses.chunks(ROWS).zip(0..) {
            bench.responses(some, number * ROWS as u32)?;
        }
        for (some, number) in pairs.chunks(ROWS).zip(0..) {
            bench.pairs(some, 2 * number * ROWS as u32)?;
        }
        bench.out.flush()?;
        bench.progress.end();
        Ok(ExitCode::SUCCESS)
    }
}

impl Bench<'_> {
    /// Judges responses and writes their lines; the first is group `first`.
    fn responses(&mut self, items: &[Item], first: u32) -> Result<()> {
        let prompt = |item: &Item| -> Result<Arc<[TokenId]>> {
            let subject = Subject { task: &item.task, messages: &item.messages, response: &item.response };
            let prompt = self.judge.prompt(subject).map_err(TrainError::from);
            let prompt = prompt.with_context(|| item.place.clone())?;
            self.fits(&prompt).with_context(|| item.place.clone())?;
            Ok(prompt)
        };
        let prompts = items.iter().map(prompt).collect::<Result<Vec<_>>>()?;
        let (judge, how, progress) = (&self.judge, self.how, &self.progress);
        let (readings, tokens) = self.sampling(&prompts, |sampler| {
            let mut watch = |done, tokens| progress.heard(done, tokens);
            let rollouts = judge.sample(sampler, (&prompts, first), how, &mut watch)?;
            let tokens = rollouts.iter().map(|rollout| rollout.completion.len() as u64).sum();
            Ok((judge.read_all(sampler, &rollouts, &mut watch)?, tokens))
        })?;
        self.progress.batch(readings.len(), tokens);
        for (item, readings) in items.iter().zip(readings.chunks(how.judgements as usize)) {
            lines(item, readings, how.vote).try_for_each(|line| self.out.line(&line))?;
        }
        Ok(())
    }

    /// Judges pairs side by side and writes their lines; the first is group `first`.
    fn pairs(&mut self, pairs: &[PreferencePair], first: u32) -> Result<()> {
        let prepare = |pair: &PreferencePair| -> Result<PreparedPair> {
            let place = || format!("pair {}", pair.id);
            let prompts = self.judge.pair(pair, self.how.mode).map_err(TrainError::from);
            let prompts = prompts.with_context(place)?;
            prompts.iter().try_for_each(|prompt| self.fits(prompt)).with_context(place)?;
            Ok(PreparedPair { pair: pair.clone(), prompts })
        };
        let prepared = pairs.iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let prompts: Vec<_> = prepared.iter().flat_map(|pair| pair.prompts.iter().cloned()).collect();
        let (judge, how, progress) = (&self.judge, self.how, &self.progress);
        let comparison = self.sampling(&prompts, |sampler| {
            judge.compare(sampler, (&prepared, first), how, &mut |done, tokens| progress.heard(done, tokens))
        })?;
        self.progress.batch(prompts.len() * how.judgements as usize, comparison.tokens);
        let Readings::Pairwise(readings) = &comparison.readings else { return Ok(()) };
        for ((pair, orders), judged) in pairs.iter().zip(readings).zip(&comparison.judged) {
            pair_lines(pair, orders, judged.standing).try_for_each(|line| self.out.line(&line))?;
        }
        Ok(())
    }

    fn fits(&self, prompt: &[TokenId]) -> Result<()> {
        Ok(model::fits(prompt, self.judge.longest(), &self.model)?)
    }

    /// Runs `f` with an engine that suits these prompts.
    fn sampling<T>(
        &self,
        prompts: &[Arc<[TokenId]>],
        f: impl FnOnce(&mut Sampler<'_>) -> Result<T, RolloutError>,
    ) -> Result<T> {
        let (stream, model) = (&self.stream, &self.model);
        let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
        let each = Each::of(&self.judge, self.how.judgements);
        let (_memory, engine) = model::engine((stream, model), &self.config.rollout, &lengths, each)?;
        Ok(f(&mut Sampler { stream, model, weights_version: 0, engine }).map_err(TrainError::from)?)
    }
}

/// The built-in rubrics, with those of a folder in their place.
pub(super) fn rubrics(folder: Option<&Path>, own: RubricSet) -> Result<RubricSet, TrainError> {
    Ok(match folder {
        Some(folder) => own.replaced_by(RubricSet::from_dir(folder)?),
        None => own,
    })
}

fn lines<'a>(item: &'a Item, readings: &'a [Reading], vote: Vote) -> impl Iterator<Item = Line<'a>> {
    let judgements: Vec<Judgement> = readings.iter().map(Reading::judgement).collect();
    let expected: Vec<Expected> = readings.iter().filter_map(|reading| reading.expected).collect();
    let voted = Expected::mean(&expected).or(vote.score(&judgements));
    let mean = Vote::Mean.score(&judgements);
    readings.iter().enumerate().map(move |(sample, reading)| {
        let verdict = reading.verdict.as_ref();
        Line {
            id: &item.id,
            side: item.side,
            task: &item.task,
            sample,
            score: verdict.ok().map(|verdict| verdict.score.value()),
            expected: reading.expected.map(|e| Weighed { expected: e.score, mass: e.mass }),
            voted,
            mean,
            failure: verdict.err().map(|error| error.kind()),
            text: &reading.text,
            rubric: verdict.map_or(&[], |verdict| &verdict.rubric),
            remarks: verdict.map_or(&[], |verdict| &verdict.eval),
        }
    })
}

fn pair_lines<'a>(
    pair: &'a PreferencePair,
    orders: &'a [Vec<Reading<PairVerdict>>; 2],
    standing: Standing,
) -> impl Iterator<Item = PairLine<'a>> {
    let winner = match standing {
        Standing::Win => Some("chosen"),
        Standing::Loss => Some("rejected"),
        Standing::Tie => Some("neither"),
        Standing::Unread => None,
    };
    let orders = orders.iter().zip([("chosen_first", [0, 1]), ("rejected_first", [1, 0])]);
    orders.flat_map(move |(readings, (order, places))| {
        readings.iter().enumerate().map(move |(sample, reading)| {
            let verdict = reading.verdict.as_ref();
            let [chosen, rejected] =
                places.map(|place| verdict.ok().map(|verdict| verdict.scores[place].value()));
            PairLine {
                id: &pair.id,
                order,
                task: &pair.task,
                sample,
                chosen,
                rejected,
                winner,
                failure: verdict.err().map(|error| error.kind()),
                text: &reading.text,
                rubric: verdict.map_or(&[], |verdict| &verdict.rubric),
                remarks: verdict.map_or(&[], |verdict| &verdict.eval),
            }
        })
    })
}
