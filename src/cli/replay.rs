use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::config::Overrides;
use super::flags::Flags;
use super::model;
use super::output::Output;
use crate::checkpoint::ModelFolder;
use crate::device::{Device, Stream};
use crate::qwen3::{Config, Model};
use crate::record::{JudgedRollout, RecordError, ReplayReader};
use crate::tensor::Arena;
use crate::trainer::replay::{Weights, replay};
use crate::trainer::{Learner, Pass, RunFolder, TrainConfig, TrainError};

/// Of a file alone the steps count from 1.
const FILE: &str = "[sft]\nsteps = 0\n";

/// Recorded judgements once more: advantages, ratios, loss, gradient norm; nothing is updated.
#[derive(Debug, Args)]
#[command(after_help = "\
In:   lines of rollouts with rewards, as `train --rl.record_every N` keeps them in a run folder's rollouts/.
Out:  one JSON line a step. Without --model the loss is computed in f64 from the recorded log-probabilities, and there is no
      gradient norm; with the checkpoint of the step before, loss and norm are those of the run's metrics, to the bit.
A run folder brings its settings along; flags change them: --rl.loss.loss dapo. A step is replayed as one update on all of it.

Example:  patarm replay runs/train --step 12 --model runs/train/checkpoints/step-00000011")]
pub(super) struct Replay {
    /// Run folder, or a file of rollouts (JSON lines).
    #[arg(value_name = "FOLDER|FILE")]
    path: PathBuf,
    /// Hugging Face folder of the weights to measure with, such as a checkpoint of the run.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Only this step, as the metrics count it.
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Where the lines go; without it standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl Replay {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let settings = match self.path.is_dir() {
            false => FILE.to_owned(),
            true => {
                let at = self.path.join("config.toml");
                fs::read_to_string(&at).with_context(|| at.display().to_string())?
            }
        };
        let config = self.flags.settings(&[("the run's settings", &settings)], &[], overrides)?;
        config.check()?;
        self.flags.run(&config, |device| self.all(&config, device))
    }

    fn all(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        if self.model.is_some() && (config.lora.is_some() || config.model.adapter.is_some()) {
            bail!("replay: gradients of an adapter's factors are not offered; leave --model out");
        }
        let files = match self.path.is_dir() {
            true => RunFolder::rollouts(&self.path).map_err(TrainError::from)?,
            false => vec![self.path.clone()],
        };
        let mut engine = match &self.model {
            None => Engine::Record(Stream::new(device)),
            Some(path) => Engine::weights(path, config, &device)?,
        };
        let mut out = Output::create(self.out.as_deref())?;
        let (mut known, mut replayed) = (Vec::new(), 0);
        for file in files {
            let judged = read(&file).map_err(TrainError::from)?;
            for step in judged.chunk_by(|a, b| a.rollout.seed.step == b.rollout.seed.step) {
                let number = config.sft.steps + step[0].rollout.seed.step + 1;
                if self.step.is_none_or(|wanted| wanted == number) {
                    engine.replay(step, config, &mut out).with_context(|| file.display().to_string())?;
                    replayed += 1;
                }
                known.push(number.to_string());
            }
        }
        out.flush()?;
        if replayed == 0 {
            let path = self.path.display();
            match self.step {
                Some(wanted) if !known.is_empty() => {
                    bail!("{path} holds no step {wanted}: there are {}", known.join(", "))
                }
                _ => bail!("{path} holds no rollouts: `train --rl.record_every N` keeps them"),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(file: &Path) -> Result<Vec<JudgedRollout>, RecordError> {
    let failed = |source| RecordError::File { path: file.to_owned(), line: 0, source };
    ReplayReader::new(BufReader::new(File::open(file).map_err(failed)?), file).collect()
}

/// What measures the policy.
enum Engine {
    /// The record's own numbers.
    Record(Stream),
    /// A model, with room for its gradients.
    Weights(Box<Learner>),
}

impl Engine {
    fn weights(path: &Path, config: &TrainConfig, device: &Device) -> Result<Self> {
        let read = || -> Result<Learner, TrainError> {
            let folder = ModelFolder::open(path)?;
            let shape = Config::of(&folder)?;
            shape.check_folder(&folder)?;
            let (dtype, positions) =
                (config.model.dtype.storage(), shape.positions.min(config.rl.leaf_tokens));
            let carve = |arena: &mut Arena| {
                let model = Model::new(shape.clone(), dtype, positions, arena)?;
                Learner::new(Stream::new(device.clone()), model, config.kept(), arena)
            };
            let (_memory, mut learner) = model::exact(device, "model", carve)?;
            learner.model.read(&folder, config.model.scan)?;
            Ok(learner)
        };
        let learner = read().with_context(|| format!("--model {}", path.display()))?;
        Ok(Self::Weights(Box::new(learner)))
    }

    fn replay(&mut self, step: &[JudgedRollout], config: &TrainConfig, out: &mut Output) -> Result<()> {
        let replayed = match self {
            Self::Record(stream) => replay(stream, step, config, None)?,
            Self::Weights(learner) => {
                let (shape, dtype) = (learner.model.config.clone(), learner.model.dtype);
                let limits = config.rl.pass_limits(step.len());
                let pass = |arena: &mut Arena| Pass::new(&shape, dtype, limits, arena);
                let device = learner.stream.device().clone();
                let (_memory, mut pass) = model::exact(&device, "pass", pass).map_err(TrainError::from)?;
                let stream = Stream::new(device);
                replay(&stream, step, config, Some(Weights { learner, pass: &mut pass }))?
            }
        };
        Ok(out.line(&replayed)?)
    }
}
