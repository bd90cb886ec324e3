use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::config::{self, Overrides};
use super::output::print_out;
use super::profiling;
use crate::checkpoint::Scan;
use crate::device::{Device, DeviceChoice};
use crate::trainer::{ModelDtype, TrainConfig, TrainError};

/// Where a command computes.
#[derive(Debug, Args)]
pub(super) struct Machine {
    /// Where to compute: cpu, cuda, cuda:N, or auto, which is the CPU for now.
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceChoice,
    /// Storage of weights and activations: f32, bf16 or f64 [default: f32].
    #[arg(long, value_parser = dtype)]
    pub(super) dtype: Option<ModelDtype>,
    /// Host threads; 0: one per core. Changes speed, never a result.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of everything that is drawn [default: 1].
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Name phases and layers to the profiler that the program runs under (NVTX).
    #[arg(long)]
    nvtx: bool,
}

/// What every command that has settings understands.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// TOML file with settings; those it leaves out keep their defaults. A dotted flag sets one: --rl.steps 20.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of a LoRA adapter in peft's layout, on top of --model.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Load weights without looking for NaN and infinity in them.
    #[arg(long)]
    no_scan: bool,
    /// Print the merged settings as TOML and stop.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    machine: Machine,
}

impl Machine {
    /// Opens the device and runs `f` on its threads.
    pub(super) fn run(&self, f: impl FnOnce(Device) -> Result<ExitCode> + Send) -> Result<ExitCode> {
        if self.nvtx {
            profiling::tell()?;
        }
        let device = Device::open(self.device, self.threads).map_err(TrainError::from)?;
        device.clone().enter(|| f(device))
    }
}

impl Flags {
    /// Built-in settings, `layers`, the file's, what `typed` flags stand for, and the dotted ones.
    pub(super) fn settings(
        &self,
        layers: &[(&str, &str)],
        typed: &[(&str, Option<String>)],
        overrides: &Overrides,
    ) -> Result<TrainConfig> {
        let given = typed.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
        let all: Overrides = given.chain(overrides.iter().cloned()).collect();
        let mut config = config::merge(layers, self.config.as_deref(), &all)?;
        config.seed = self.machine.seed.unwrap_or(config.seed);
        config.model.dtype = self.machine.dtype.unwrap_or(config.model.dtype);
        if self.adapter.is_some() {
            config.model.adapter.clone_from(&self.adapter);
        }
        if self.no_scan {
            config.model.scan = Scan::Skip;
        }
        Ok(config.resolved())
    }

    /// Prints the settings, where that is all that was asked for, or opens the device and runs `f` on its threads.
    pub(super) fn run(
        &self,
        config: &TrainConfig,
        f: impl FnOnce(Device) -> Result<ExitCode> + Send,
    ) -> Result<ExitCode> {
        if self.print_config {
            print_out(toml::to_string(config)?.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        self.machine.run(f)
    }
}

/// A path as a TOML string: one that looks like a number stays a path.
pub(super) fn quoted<T: AsRef<OsStr>>(text: &Option<T>) -> Option<String> {
    text.as_ref().map(|text| toml::Value::String(text.as_ref().to_string_lossy().into_owned()).to_string())
}

/// Reads `--device`.
pub(super) fn device(text: &str) -> Result<DeviceChoice, String> {
    match text.split_once(':') {
        None if text == "auto" => Ok(DeviceChoice::Auto),
        None if text == "cpu" => Ok(DeviceChoice::Cpu),
        None if text == "cuda" => Ok(DeviceChoice::Cuda(0)),
        Some(("cuda", index)) => index.parse().map(DeviceChoice::Cuda).map_err(|e| e.to_string()),
        _ => Err("expected auto, cpu, cuda or cuda:N".into()),
    }
}

fn dtype(text: &str) -> Result<ModelDtype, String> {
    match text {
        "f32" => Ok(ModelDtype::F32),
        "bf16" => Ok(ModelDtype::Bf16),
        "f64" => Ok(ModelDtype::F64),
        _ => Err("expected f32, bf16 or f64".into()),
    }
}
