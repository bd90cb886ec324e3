use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::bad_rows::BadRows;
use super::config::Overrides;
use super::flags::{Flags, quoted};
use super::model;
use super::output::{print_out, say};
use super::score::rubrics;
use super::train::DEMO;
use crate::demo::{self, Split};
use crate::device::Device;
use crate::evaluation::nulls::{self, NullJudge};
use crate::evaluation::{Judge, PreparedPair, Summary, Unread};
use crate::preference::{self, PreferencePair, RowError};
use crate::report::{Estimate, Table};
use crate::rollout::{Engine, Sampler};
use crate::rubric::RubricSet;
use crate::tensor::Arena;
use crate::tokenizer::ChatOptions;
use crate::trainer::{self, Evaluated, Fit, Overlong, TrainConfig, TrainError};

/// Measure a judge: how often it scores the preferred response higher, each response judged alone.
#[derive(Debug, Args)]
#[command(after_help = "\
In:   preference pairs (prompt or messages, chosen, rejected, task): jsonl, json, gz, zst, parquet, or a folder of them;
      without --data the embedded demo's held-out pairs
Out:  a table on standard error, beside judges that read nothing; one JSON object on standard output
Each response is judged evaluation.judgements times and the means are compared, as patarm train does.
Ties earn one half; a pair of which one side has no verdict is lost. Intervals are Wilson's, 95 %.

Example:  patarm evaluate --model runs/train/model")]
pub(super) struct Evaluate {
    /// Hugging Face folder of the judge.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File or folder of preference pairs; all of them are judged.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder of task files that replace or add to the built-in rubrics.
    #[arg(long, value_name = "DIR")]
    rubrics: Option<PathBuf>,
    #[command(flatten)]
    bad_rows: BadRows,
    #[command(flatten)]
    flags: Flags,
}

impl Evaluate {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let layers: &[(&str, &str)] =
            if self.data.is_none() { &[("the demo's settings", DEMO)] } else { &[] };
        let typed = [
            ("data.path", quoted(&self.data)),
            ("data.rubrics", quoted(&self.rubrics)),
            self.bad_rows.setting(),
        ];
        let config = self.flags.settings(layers, &typed, overrides)?;
        self.flags.run(&config, |device| self.judge(&config, device))
    }

    fn judge(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let ([train, held_out], rejects) = pairs(config)?;
        self.bad_rows.keep(&rejects)?;
        let own = if config.data.path.is_none() { demo::rubrics() } else { RubricSet::builtin() };
        let rubric = rubrics(config.data.rubrics.as_deref(), own)?;
        let loaded = model::open(&self.model, &config.model, device)?;
        let (stream, model, tokenizer) = loaded.into_tokenizer()?;
        let max_new_tokens = config.rollout.max_new_tokens;
        let judge = Judge { rubric, tokenizer, chat: ChatOptions::default(), max_new_tokens };
        let room = model.rope.positions().saturating_sub(max_new_tokens);
        let prepared = fitting(&judge, &held_out, room, config.data.overlong)?;
        let mut lengths = Vec::new();
        for (pair, prompt) in prepared.iter().flat_map(|p| p.prompts.iter().map(|prompt| (&p.pair, prompt))) {
            model::fits(prompt, &config.rollout, &model)
                .map_err(|error| anyhow::Error::new(error).context(format!("pair {}", pair.id)))?;
            lengths.push(prompt.len());
        }
        let limits = model::limits(
            &model,
            &config.rollout,
            &lengths,
            (config.evaluation.judgements.max(1) as usize, max_new_tokens),
        );
        let engine = |arena: &mut Arena| Engine::new(&model.config, model.dtype, limits, arena);
        let (_memory, engine) =
            model::exact(stream.device(), "sampling", engine).map_err(TrainError::from)?;
        let mut sampler = Sampler { stream: &stream, model: &model, weights_version: 0, engine };
        let how = config.evaluation.judging(config.seed);
        let comparison = judge
            .compare(&mut sampler, &prepared, how, &mut |_, _| ControlFlow::Continue(()))
            .map_err(TrainError::from)?;
        let evaluated = Evaluated::of(0, &comparison);
        let mut nulls = nulls::table(&train, &held_out, config.seed);
        nulls.retain(|null| !train.is_empty() || null.name != "n-gram regression");
        say(&table(&evaluated, &nulls).to_string());
        let nulls: Vec<_> = nulls
            .iter()
            .map(|n| json!({ "name": n.name, "accuracy": n.overall.accuracy(Unread::Wrong) }))
            .collect();
        let Evaluated { overall, tasks, histogram, .. } = evaluated;
        let tasks: serde_json::Map<_, _> =
            tasks.into_iter().map(|(task, summary)| (task, json!(summary))).collect();
        let all = json!({ "overall": overall, "tasks": tasks, "histogram": histogram, "nulls": nulls });
        print_out(&all.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
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
    overlong: Overlong,
) -> Result<Vec<PreparedPair>, TrainError> {
    let (mut prepared, mut cut) = (Vec::new(), 0);
    for pair in pairs {
        match trainer::fit(judge, pair.clone(), room, overlong)? {
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
    let mut table = Table::new(["", "pairs", "accuracy", "95 %", "ties", "failures"]);
    let mut row = |name: &str, s: &Summary| {
        let accuracy = [percent(s.accuracy.map(|a| a.value)), interval(s.accuracy)];
        let [value, low_high] = accuracy;
        let (ties, failures) = (percent(s.tie_rate), percent(s.failure_rate));
        table.row([name.to_owned(), s.pairs.to_string(), value, low_high, ties, failures]);
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
