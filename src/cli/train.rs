use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::config::{self, Overrides};
use super::observer::Terminal;
use super::{exit, machine};
use crate::device::{Device, DeviceChoice, Stream};
use crate::report::Origin;
use crate::trainer::{Clock, Ended, Observer, Resume, Run, RunFolder, Setup, TrainConfig, TrainError};

/// Settings of the embedded demo.
const DEMO: &str = include_str!("../../models/demo/train.toml");

/// Train a judge from preference pairs: cold start, then PAR and GRPO, then held-out evaluation.
///
/// Without arguments: the embedded demo, a small model on made-up pairs, in a few minutes on two cores.
#[derive(Debug, Args)]
pub(super) struct Train {
    /// TOML file with settings; those it leaves out keep their defaults. See --print-config.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File or folder of preference pairs (jsonl, json, gz, zst, parquet); without it the embedded demo pairs.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Hugging Face folder of a Qwen3 model; without it the embedded demo model.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Run folder.
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    out: PathBuf,
    /// Go on with the run in --out, from its newest checkpoint.
    #[arg(long)]
    resume: bool,
    /// Print the merged settings as TOML and stop.
    #[arg(long)]
    print_config: bool,
    /// Host threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of the whole run.
    #[arg(long)]
    seed: Option<u64>,
}

impl Train {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let config = self.settings(overrides)?;
        if self.print_config {
            print_out(&toml::to_string(&config)?);
            return Ok(ExitCode::SUCCESS);
        }
        let device = Device::open(DeviceChoice::Auto, self.threads).map_err(TrainError::from)?;
        let inside = device.clone();
        inside.enter(|| self.train(&config, device))
    }

    fn settings(&self, overrides: &Overrides) -> Result<TrainConfig> {
        let mut overrides = overrides.clone();
        let typed = [
            ("data.path", self.data.as_ref().map(|p| p.display().to_string())),
            ("model.path", self.model.as_ref().map(|p| p.display().to_string())),
        ];
        overrides.extend(typed.into_iter().filter_map(|(name, value)| value.map(|v| (name.to_owned(), v))));
        let demo = self.data.is_none() && self.model.is_none();
        let layers: &[(&str, &str)] = if demo { &[("the demo's settings", DEMO)] } else { &[] };
        let mut config: TrainConfig =
            config::merge(&TrainConfig::default(), layers, self.config.as_deref(), &overrides)?;
        config.seed = self.seed.unwrap_or(config.seed);
        Ok(config)
    }

    fn train(self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let setup = Setup::read(config)?;
        let resume = if self.resume { Resume::Yes } else { Resume::No };
        let mut folder = RunFolder::open(&self.out, config, setup.judge.tokenizer.files(), resume)?;
        let threads = match &device {
            Device::Host(host) => host.threads(),
            Device::Cuda(cuda) => match *cuda {},
        };
        let provenance = machine::provenance(&setup.data.hash, threads);
        folder.keep_provenance(&provenance)?;
        let mut run = Run::new(config, &setup, Stream::new(device), Clock(machine::now))?;
        if self.resume {
            run.restore(&folder)?;
        }
        let origin = Origin { host: machine::host(), pid: std::process::id(), time: machine::now() };
        folder.start_metrics(&origin, run.progress())?;
        let mut terminal =
            Terminal::new(run.total_steps(), run.progress().step).context("signal handlers")?;
        match run.train(&mut folder, &mut terminal)? {
            Ended::Stopped => {
                terminal.notice(&format!("stopped; go on with --resume --out {}", self.out.display()));
                Ok(ExitCode::from(exit::PREEMPTED))
            }
            Ended::Finished => {
                let outcome = run.finish(&mut folder, &mut terminal)?;
                folder.keep_outcome(&outcome, provenance)?;
                terminal.notice(&outcome.table().to_string());
                terminal.notice(&format!("report: {}", self.out.join("report.html").display()));
                print_out(&serde_json::to_string(&outcome)?);
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

#[allow(clippy::print_stdout)]
fn print_out(text: &str) {
    println!("{text}");
}
