use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use super::machine;
use super::observer::Terminal;
use super::output::say;
use super::profiling::Profiling;
use super::signals::Signals;
use crate::device::{Device, Stream};
use crate::report::Origin;
use crate::trainer::{Allowed, Clock, Resume, Run, RunFolder, Setup, TrainConfig};

/// Whether a run begins or goes on.
#[derive(Debug, Args)]
pub(super) struct Going {
    /// Go on with the run in --out, from its newest checkpoint.
    #[arg(long)]
    resume: bool,
    /// With --resume: what may differ from how the run was begun: data, world, program, or settings by their dotted names.
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "resume")]
    allow: Vec<String>,
    #[command(flatten)]
    profiling: Profiling,
}

impl Going {
    /// Claims the run folder. From here on signals are heard; until the run begins they end the program at once.
    pub(super) fn open(
        &self,
        out: &Path,
        config: &TrainConfig,
        device: &Device,
    ) -> Result<(RunFolder, Signals)> {
        self.profiling.on(device)?;
        let signals = Signals::listen().context("signal handlers")?;
        let origin = Origin { host: machine::host(), pid: std::process::id(), time: machine::now() };
        let resume = if self.resume { Resume::Yes(Allowed(self.allow.clone())) } else { Resume::No };
        Ok((RunFolder::open(out, config, resume, &origin)?, signals))
    }

    /// Loads the run, tells its memory, and opens its metrics: it begins.
    pub(super) fn begin<'a>(
        &self,
        (config, setup): (&TrainConfig, &'a Setup),
        device: Device,
        folder: &mut RunFolder,
        terminal: Terminal,
    ) -> Result<(Run<'a>, Terminal)> {
        let mut terminal = terminal.with_window(self.profiling.on(&device)?);
        let mut run = Run::new(config, setup, Stream::new(device), Clock(machine::now))?;
        say(&run.plan().to_string());
        if self.resume {
            run.restore(folder, &mut terminal)?;
        }
        terminal.begin();
        folder.start_metrics(run.progress())?;
        Ok((run, terminal))
    }
}
