use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::output::say;
use crate::report::RunReport;

/// Make the page of a finished or running training run again.
#[derive(Debug, Args)]
#[command(after_help = "\
In:   a run folder with report.json and metrics.jsonl, as `patarm train` leaves it
Out:  report.html in the same folder: one self-contained page

Example:  patarm report runs/train")]
pub(super) struct Report {
    /// Run folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode> {
        RunReport::load(&self.folder)?.save(&self.folder)?;
        say(&self.folder.join("report.html").display().to_string());
        Ok(ExitCode::SUCCESS)
    }
}
