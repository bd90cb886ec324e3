use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::config::Overrides;
use super::flags::{Flags, quoted};
use super::init::shape;
use super::lora::Lora;
use super::output::{print_out, say};
use super::train::DEMO;
use crate::demo;
use crate::device::{Device, Stream};
use crate::evaluation::Judge;
use crate::qwen3::{Config, Model};
use crate::report::Table;
use crate::rollout::Engine;
use crate::rubric::RubricSet;
use crate::tensor::{Arena, ArenaError};
use crate::trainer::{DataReport, Learner, Pass, Setup, TrainConfig, TrainError, TrainingData, carve};

/// Shape of the embedded demo model.
const DEMO_MODEL: &str = include_str!("../../models/demo/config.json");

/// Say what a training run needs, without starting it: memory, tokens a step, disk.
#[derive(Debug, Args)]
#[command(after_help = "\
In:   the settings of `patarm train`; of the model only config.json, so models/qwen3-0.6b will do
Out:  a table on standard error; one JSON object with the same numbers in bytes on standard output

Example:  patarm plan --model models/qwen3-0.6b --dtype bf16 --rollout.kv_blocks 512")]
pub(super) struct Plan {
    /// Folder with a config.json; without it the embedded demo model.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    lora: Lora,
    #[command(flatten)]
    flags: Flags,
}

impl Plan {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let layers: &[(&str, &str)] =
            if self.model.is_none() { &[("the demo's settings", DEMO)] } else { &[] };
        let [rank, alpha, targets] = self.lora.settings();
        let typed = [("model.path", quoted(&self.model)), rank, alpha, targets];
        let config = self.flags.settings(layers, &typed, overrides)?;
        self.flags.run(&config, |device| print(&config, device))
    }
}

fn print(config: &TrainConfig, device: Device) -> Result<ExitCode> {
    let setup = bare_setup(config)?;
    let stream = Stream::new(device);
    let mut arenas = [Arena::planned("model"), Arena::planned("phase")];
    carve(config, &setup, &stream, &mut arenas).map_err(TrainError::from)?;
    let shape = &setup.model;
    let dtype = config.model.dtype.storage();
    let judgements = 2 * config.rl.pairs * config.rollout.samples as usize;
    let sampling = planned(|arena| Engine::new(shape, dtype, config.rollout.limits(), arena))?;
    let training = planned(|arena| Pass::new(shape, dtype, config.rl.pass_limits(judgements), arena))?;
    let mut arena = Arena::planned("disk");
    let model = Model::new(shape.clone(), dtype, 1, &mut arena).map_err(TrainError::from)?;
    let learner = Learner::new(stream, model, config.kept(), &mut arena).map_err(TrainError::from)?;
    let (weights, learns) = (learner.model.learns().bytes(), learner.model.learns().count());
    let state: usize = learner.state().map(|(_, tensor)| tensor.bytes()).sum();
    let [model, phase] = arenas.map(|arena| arena.peak());
    let drawn = judgements * config.rollout.most_drawn();
    let prompts = 2 * config.rl.pairs * config.data.max_prompt_tokens;
    let mut table = Table::new(["what", "needs"]);
    let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    for (name, bytes) in [
        ("weights, gradients, optimizer", model),
        ("phase: sampling", sampling),
        ("phase: training", training),
        ("memory in all", model + phase),
        ("disk, a checkpoint", weights + state),
    ] {
        table.row([name.to_owned(), mib(bytes)]);
    }
    table.row(["parameters".to_owned(), shape.parameters().to_string()]);
    table.row(["of these learn".to_owned(), learns.to_string()]);
    table.row(["tokens drawn a step, at most".to_owned(), drawn.to_string()]);
    table.row(["prompt tokens a step, at most".to_owned(), prompts.to_string()]);
    say(&table.to_string());
    print_out(
        &json!({
            "parameters": shape.parameters(),
            "learning": learns,
            "memory": { "model": model, "phase": phase, "sampling": sampling, "training": training },
            "tokens_per_step": { "drawn": drawn, "prompts": prompts },
            "checkpoint": { "weights": weights, "state": state },
        })
        .to_string(),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn planned<T>(carve: impl FnOnce(&mut Arena) -> Result<T, ArenaError>) -> Result<usize, TrainError> {
    let mut arena = Arena::planned("phase");
    drop(carve(&mut arena)?);
    Ok(arena.peak())
}

/// A run's shape without its data and weights: lengths are the settings' limits.
fn bare_setup(config: &TrainConfig) -> Result<Setup> {
    let mut model = match &config.model.path {
        None => Config::parse(DEMO_MODEL).map_err(TrainError::from)?,
        Some(path) => shape(path)?.1,
    };
    model.adapter = config.low_rank()?;
    let tokenizer = demo::tokenizer().map_err(TrainError::from)?;
    let judge = Judge::new(RubricSet::default(), tokenizer, config.rollout.most_drawn());
    let data = TrainingData::prepare(&judge, [Vec::new(), Vec::new()], String::new(), config)?;
    let (noticed, rejects) = (DataReport::default(), Vec::new());
    Ok(Setup { model, folder: None, judge, data, cold_start: Vec::new(), noticed, rejects })
}
