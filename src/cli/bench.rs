use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::flags::device;
use super::kernels::Kernels;
use super::output::{print_out, say};
use crate::bench::{self, DecodeShape, Options, Record, Repeat, TrainShape};
use crate::device::{Device, DeviceChoice};
use crate::qwen3::{Config, Keep};
use crate::tensor::DType;

/// Shape that is measured when none is named.
const SHAPE: &str = include_str!("../../models/qwen3-0.6b/config.json");

/// Measure speed beside the machine's own limits, and beside peers, repeat by repeat.
///
/// The result is one JSON record on standard output: commit, binary, machine, load, limits, every repeat, medians.
#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One optimizer step on next-token prediction.
    TrainStep(TrainStep),
    /// Cached greedy decoding, the prompt not counted.
    Decode(Decode),
    Kernels(Kernels),
}

#[derive(Debug, Args)]
struct Measure {
    /// Folder with a config.json; its weights are not read. Without it: Qwen3-0.6B's.
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Layers instead of the config's.
    #[arg(long)]
    layers: Option<usize>,
    /// Where to compute: cpu, cuda, cuda:N, or auto, which is the CPU for now.
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceChoice,
    /// Storage of weights and activations: f32, which a GPU does not have, or bf16 [default: f32; on a GPU bf16].
    #[arg(long, value_parser = ["f32", "bf16"])]
    dtype: Option<String>,
    /// Host threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Measured repeats of each side.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Repeats before the first measured one.
    #[arg(long, default_value_t = 1)]
    warm_up: usize,
    /// Command of a peer that speaks the protocol of benches/reference; may be given more than once.
    #[arg(long, value_name = "COMMAND")]
    peer: Vec<String>,
}

#[derive(Debug, Args)]
struct TrainStep {
    #[command(flatten)]
    measure: Measure,
    /// Sequences of a step.
    #[arg(long, default_value_t = 4)]
    sequences: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 512)]
    length: usize,
    /// Rows of the head's tile.
    #[arg(long, default_value_t = 512)]
    tile: usize,
    /// Keep only each layer's input and run layers again in the backward pass.
    #[arg(long)]
    recompute: bool,
}

#[derive(Debug, Args)]
struct Decode {
    #[command(flatten)]
    measure: Measure,
    /// Sequences drawn at once.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Tokens of each prompt.
    #[arg(long, default_value_t = 64)]
    prompt: usize,
    /// Measured steps.
    #[arg(long, default_value_t = 16)]
    steps: usize,
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode> {
        let record = match self.what {
            What::TrainStep(train) => serde_json::to_string_pretty(&train.run()?)?,
            What::Decode(decode) => serde_json::to_string_pretty(&decode.run()?)?,
            What::Kernels(kernels) => serde_json::to_string_pretty(&kernels.run()?)?,
        };
        print_out(&record)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl TrainStep {
    fn run(self) -> Result<Record> {
        let (config, dtype, device, options) = self.measure.resolve()?;
        let keep = if self.recompute { Keep::Inputs } else { Keep::All };
        let Self { sequences, length, tile, .. } = self;
        if sequences == 0 || length < 2 || tile == 0 {
            bail!("--sequences and --tile must be at least 1, --length at least 2");
        }
        let shape = TrainShape { config, dtype, sequences, length, keep, tile };
        Ok(device.clone().enter(|| bench::train_step(&device, shape, &options, &mut watch))?)
    }
}

impl Decode {
    fn run(self) -> Result<Record> {
        let (config, dtype, device, options) = self.measure.resolve()?;
        let Self { batch, prompt, steps, .. } = self;
        if batch == 0 || prompt == 0 || steps == 0 {
            bail!("--batch, --prompt and --steps must be at least 1");
        }
        let shape = DecodeShape { config, dtype, batch, prompt, steps };
        Ok(device.clone().enter(|| bench::decode(&device, shape, &options, &mut watch))?)
    }
}

impl Measure {
    fn resolve(&self) -> Result<(Config, DType, Device, Options)> {
        let text = match &self.config {
            Some(folder) => read(folder)?,
            None => SHAPE.to_owned(),
        };
        let mut config = Config::parse(&text)?;
        config.layers = self.layers.unwrap_or(config.layers);
        let device = Device::open(self.device, self.threads)?;
        let dtype = match (self.dtype.as_deref(), &device) {
            (Some("bf16"), _) | (None, Device::Cuda(_)) => DType::BF16,
            _ => DType::F32,
        };
        let (repeats, warm_up, peers) = (self.repeats, self.warm_up, self.peer.clone());
        let options = Options { repeats, warm_up, peers, ..Options::default() };
        Ok((config, dtype, device, options))
    }
}

/// A shape from its folder.
pub(super) fn read(folder: &Path) -> Result<String> {
    let path = folder.join("config.json");
    std::fs::read_to_string(&path).with_context(|| format!("--config: {}", path.display()))
}

fn watch(side: &str, repeat: &Repeat) {
    say(&format!("{:>10.2} tokens/s  load {:.2}  {side}", repeat.speed(), repeat.load));
}
