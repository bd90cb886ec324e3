use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

/// JSON lines that leave the program: to a file, or to standard output.
pub(super) struct Output {
    to: Box<dyn Write>,
    name: String,
}

/// What is written could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}")]
pub(super) struct OutputError {
    name: String,
    source: io::Error,
}

impl OutputError {
    /// Whether the reader went away: nothing to talk about.
    pub(super) fn is_closed_pipe(&self) -> bool {
        self.source.kind() == io::ErrorKind::BrokenPipe
    }
}

impl Output {
    /// Creates the file, or takes standard output where there is none.
    pub(super) fn create(path: Option<&Path>) -> Result<Self, OutputError> {
        let name = path.map_or_else(|| "standard output".into(), |path| path.display().to_string());
        let to: Box<dyn Write> = match path.map(File::create) {
            None => Box::new(io::stdout()),
            Some(Ok(file)) => Box::new(file),
            Some(Err(source)) => return Err(OutputError { name, source }),
        };
        Ok(Self { to: Box::new(BufWriter::new(to)), name })
    }

    /// Writes one line.
    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), OutputError> {
        let text = serde_json::to_string(value).expect("rows are plain data with text keys");
        self.text(&text)
    }

    /// Writes text and ends its line.
    pub(super) fn text(&mut self, text: &str) -> Result<(), OutputError> {
        writeln!(self.to, "{text}").map_err(|source| OutputError { name: self.name.clone(), source })
    }

    /// Hands over what was written so far.
    pub(super) fn flush(&mut self) -> Result<(), OutputError> {
        self.to.flush().map_err(|source| OutputError { name: self.name.clone(), source })
    }
}

/// One piece of data for whoever reads standard output.
pub(super) fn print_out(text: &str) -> Result<(), OutputError> {
    let mut out = Output::create(None)?;
    out.text(text)?;
    out.flush()
}

/// Something for the person at the terminal. One who went away costs nothing: there is nobody to tell.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}
