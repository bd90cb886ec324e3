use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::bad_rows::BadRows;
use super::config::Overrides;
use super::flags::{Flags, quoted};
use super::judging::JudgingFlags;
use super::model::{self, Each};
use super::output::{Output, print_out, say};
use super::progress::Progress;
use super::records::records;
use super::score::rubrics;
use super::train::DEMO;
use crate::demo::{self, Split};
use crate::device::{Device, Stream};
use crate::evaluation::nulls::{self, NullJudge};
use crate::evaluation::{Comparison, Judge, PreparedPair, Summary, Unread};
use crate::preference::{self, PreferencePair, RowError};
use crate::qwen3::Model;
use crate::report::{Estimate, Table};
use crate::rollout::Sampler;
use crate::rubric::RubricSet;
use crate::trainer::{self, Evaluated, Fit, TrainConfig, TrainError};

/// Measure a judge: how often it scores the preferred response higher.
#[derive(Debug, Args)]
#[command(after_help = "\
In:   preference pairs (prompt or messages, chosen, rejected, task): jsonl, json, gz, zst, parquet, or a folder of them;
      without --data the embedded demo's held-out pairs
Out:  a table on standard error, beside judges that read nothing; one JSON object on standard output; with --out a line a pair:
      {\"id\", \"task\", \"standing\", \"chosen\", \"rejected\", \"judgements\": [{\"shown\", \"sample\", \"scores\", \"failure\", \"text\"}]}
Each response is judged --judgements times and the means are compared, as patarm train does. With --mode pairwise both
responses of a pair are shown side by side, in both orders, each of which counts alike: flips is the share of pairs that
stand otherwise in the other order, first wins the share of comparisons that the response shown first won.
Ties earn one half; a pair of which one side, or one order, has no verdict is lost. Intervals are Wilson's, 95 %.

Example:  patarm evaluate --model runs/train/model")]
pub(super) struct Evaluate {
    /// Hugging Face folder of the judge.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File or folder of preference pairs; all of them are judged.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Where a line for each pair goes: its scores and judgements.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Folder of task files that replace or add to the built-in rubrics.
    #[arg(long, value_name = "DIR")]
    rubrics: Option<PathBuf>,
    #[command(flatten)]
    judging: JudgingFlags,
    #[command(flatten)]
    bad_rows: BadRows,
    #[command(flatten)]
    flags: Flags,
}

impl Evaluate {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let layers: &[(&str, &str)] =
            if self.data.is_none() { &[("the demo's settings", DEMO)] } else { &[] };
        let mut typed = self.judging.settings().to_vec();
        typed.extend([
            ("data.path", quoted(&self.data)),
            ("data.rubrics", quoted(&self.rubrics)),
            self.bad_rows.setting(),
        ]);
        let config = self.flags.settings(layers, &typed, overrides)?;
        self.judging.check(&config)?;
        self.flags.run(&config, |device| self.all(&config, device))
    }

    fn all(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let ([train, held_out], rejects) = pairs(config)?;
        self.bad_rows.keep(&rejects)?;
        let own = if config.data.path.is_none() { demo::rubrics() } else { RubricSet::builtin() };
        let rubric = rubrics(config.data.rubrics.as_deref(), own)?;
        let loaded = model::open(&self.model, &config.model, device)?;
        let (stream, model, tokenizer) = loaded.into_tokenizer()?;
        let judge = config.judge(rubric, tokenizer)?;
        let mut out = self.out.as_deref().map(|path| Output::create(Some(path))).transpose()?;
        let prepared = prepare(&judge, &held_out, &model, config)?;
        let comparison = judge_all(&judge, &prepared, (&stream, &model), config)?;
        if let Some(out) = &mut out {
            let mut records = records(&prepared, &comparison, config.evaluation.vote);
            records.try_for_each(|record| out.line(&record))?;
            out.flush()?;
        }
        let evaluated = Evaluated::of(0, &comparison);
        // The pairs that the model judged, and no others.
        let (train, judged): (Vec<_>, Vec<_>) =
            (train.iter().collect(), prepared.iter().map(|p| &p.pair).collect());
        let mut nulls = nulls::table(&train, &judged, config.seed);
        nulls.retain(|null| !train.is_empty() || null.name != "n-gram regression");
        say(&table(&evaluated, &nulls).to_string());
        print_out(&summary(evaluated, &nulls).to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Encodes the pairs that fit, or are made to.
fn prepare(
    judge: &Judge,
    held_out: &[PreferencePair],
    model: &Model,
    config: &TrainConfig,
) -> Result<Vec<PreparedPair>> {
    let room = model.rope.positions().saturating_sub(judge.longest());
    let prepared = fitting(judge, held_out, room, config)?;
    for (pair, prompt) in prepared.iter().flat_map(|p| p.prompts.iter().map(|prompt| (&p.pair, prompt))) {
        model::fits(prompt, judge.longest(), model)
            .map_err(|error| anyhow::Error::new(error).context(format!("pair {}", pair.id)))?;
    }
    Ok(prepared)
}

fn judge_all(
    judge: &Judge,
    prepared: &[PreparedPair],
    (stream, model): (&Stream, &Model),
    config: &TrainConfig,
) -> Result<Comparison> {
    let how = config.evaluation.judging(config.seed);
    let lengths: Vec<usize> =
        prepared.iter().flat_map(|pair| pair.prompts.each_ref().map(|prompt| prompt.len())).collect();
    let each = Each::of(judge, how.judgements);
    let (_memory, engine) = model::engine((stream, model), &config.rollout, &lengths, each)?;
    let mut sampler = Sampler { stream, model, weights_version: 0, engine };
    let judgements = lengths.len() * how.judgements.max(1) as usize;
    let mut progress = Progress::new(judgements);
    let compared =
        judge.compare(&mut sampler, (prepared, 0), how, &mut |done, tokens| progress.heard(done, tokens));
    let comparison = compared.map_err(TrainError::from)?;
    progress.batch(judgements, comparison.tokens);
    progress.end();
    Ok(comparison)
}

fn summary(evaluated: Evaluated, nulls: &[NullJudge]) -> Value {
    let nulls: Vec<_> = nulls
        .iter()
        .map(|n| json!({ "name": n.name, "accuracy": n.overall.accuracy(Unread::Wrong) }))
        .collect();
    let Evaluated { overall, tasks, histogram, .. } = evaluated;
    let tasks: serde_json::Map<_, _> =
        tasks.into_iter().map(|(task, summary)| (task, json!(summary))).collect();
    json!({ "overall": overall, "tasks": tasks, "histogram": histogram, "nulls": nulls })
}

/// Pairs that null judges may learn from (the demo's only), and the pairs to be judged; then the rows that are no pairs.
fn pairs(config: &TrainConfig) -> Result<([Vec<PreferencePair>; 2], Vec<RowError>), TrainError> {
    let Some(path) = &config.data.path else {
        let sizes = &config.evaluation;
        let mut held_out = demo::pairs(0, Split::HeldOut, sizes.validation_pairs + sizes.held_out_pairs);
        let held_out = held_out.split_off(sizes.validation_pairs);
        return Ok(([demo::pairs(config.seed, Split::Train, config.data.demo_pairs), held_out], Vec::new()));
    };
    let dataset = preference::read(path, &config.data.read_options())?;
    Ok(([Vec::new(), dataset.pairs], dataset.rejects))
}

/// The pairs whose prompts fit, or are made to; says how many do not.
fn fitting(
    judge: &Judge,
    pairs: &[PreferencePair],
    room: usize,
    config: &TrainConfig,
) -> Result<Vec<PreparedPair>, TrainError> {
    let (mode, overlong) = (config.evaluation.mode, config.data.overlong);
    let (mut prepared, mut cut) = (Vec::new(), 0);
    for pair in pairs {
        match trainer::fit(judge, (pair.clone(), mode), room, overlong)? {
            Fit::Whole(pair) => prepared.push(pair),
            Fit::Cut(pair, _) => {
                cut += 1;
                prepared.push(pair);
            }
            Fit::Left => {}
        }
    }
    for (count, what) in [(pairs.len() - prepared.len(), "left out"), (cut, "cut at their beginning")] {
        if count > 0 {
            say(&format!(
                "{count} of {} pairs have a prompt of more than {room} tokens and are {what}",
                pairs.len()
            ));
        }
    }
    Ok(prepared)
}

fn table(evaluated: &Evaluated, nulls: &[NullJudge]) -> Table {
    let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share));
    let interval = |e: Option<Estimate>| {
        e.map_or("-".into(), |e| format!("{:.1} to {:.1}", 100.0 * e.low, 100.0 * e.high))
    };
    let both_orders = evaluated.overall.first_share.is_some();
    let mut header = vec!["", "pairs", "accuracy", "95 %", "ties", "failures"];
    header.extend(both_orders.then_some(["flips", "first wins"]).into_iter().flatten());
    let mut table = Table::new(header);
    let mut row = |name: &str, s: &Summary| {
        let accuracy = [percent(s.accuracy.map(|a| a.value)), interval(s.accuracy)];
        let mut cells = vec![name.to_owned(), s.pairs.to_string()];
        cells.extend(accuracy.into_iter().chain([percent(s.tie_rate), percent(s.failure_rate)]));
        cells.extend(both_orders.then(|| [s.flip_rate, s.first_share].map(percent)).into_iter().flatten());
        table.row(cells);
    };
    row("all", &evaluated.overall);
    evaluated.tasks.iter().for_each(|(task, summary)| row(task, summary));
    for null in nulls {
        let accuracy = null.overall.accuracy(Unread::Wrong);
        let ties = percent(Some(null.overall.tie_rate()).filter(|rate| rate.is_finite()));
        let name = format!("null judge: {}", null.name);
        let pairs = null.overall.pairs().to_string();
        table.row([name, pairs, percent(accuracy.map(|a| a.value)), interval(accuracy), ties]);
    }
    table
}
