use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::output::{Output, say};
use crate::preference::RowError;

/// Name of the list in a run folder.
pub(super) const REJECTS: &str = "rejects.jsonl";

/// What becomes of rows that cannot be used.
#[derive(Debug, Args)]
pub(super) struct BadRows {
    /// Rows that may be bad: they are left out and listed; one more ends the command [default: 0].
    #[arg(long, value_name = "N")]
    skip_bad: Option<usize>,
    /// Where bad rows are listed, one JSON object a line: file, place, field, reason.
    #[arg(long, value_name = "FILE", default_value = REJECTS)]
    rejects: PathBuf,
}

impl BadRows {
    /// The setting that the flag stands for.
    pub(super) fn setting(&self) -> (&'static str, Option<String>) {
        ("data.skip_bad", self.skip_bad.map(|count| count.to_string()))
    }

    /// Lists what was left out.
    pub(super) fn keep(&self, rejects: &[RowError]) -> Result<()> {
        keep(&self.rejects, rejects)
    }
}

/// Lists rows that were left out; without any there is no list.
pub(super) fn keep(path: &Path, rejects: &[RowError]) -> Result<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    let mut out = Output::create(Some(path))?;
    rejects.iter().try_for_each(|row| out.line(row))?;
    out.flush()?;
    say(&format!("{} bad rows are left out; {} lists them", rejects.len(), path.display()));
    Ok(())
}
