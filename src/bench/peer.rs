use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::{BenchError, Repeat};

/// A process that does one repeat for every line it reads, and answers with one JSON line.
pub(super) struct Peer {
    command: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it said of itself.
    pub(super) ready: Value,
    /// Most memory it ever held, bytes.
    pub(super) peak_bytes: u64,
}

impl Peer {
    /// Starts `command` in a shell and waits until it is ready.
    pub(super) fn start(command: &str) -> Result<Self, BenchError> {
        let fail = |reason: String| BenchError::Peer { command: command.to_owned(), reason };
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().map_err(|error| fail(error.to_string()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("the output is a pipe"));
        let (command, ready) = (command.to_owned(), Value::Null);
        let mut peer = Self { command, child, input, output, ready, peak_bytes: 0 };
        peer.ready = peer.line()?["ready"].take();
        Ok(peer)
    }

    /// One repeat.
    pub(super) fn repeat(&mut self) -> Result<Repeat, BenchError> {
        let mut line = self.answer("")?;
        let number =
            |key: &str| line[key].as_f64().ok_or_else(|| self.fail(&format!("no `{key}` in {line}")));
        let (seconds, tokens, load) = (number("seconds")?, number("tokens")? as usize, number("load")?);
        self.peak_bytes = self.peak_bytes.max(line["peak_bytes"].as_u64().unwrap_or(0));
        let more = line.as_object_mut().map(std::mem::take).unwrap_or_default();
        Ok(Repeat { seconds, tokens, load, limits: None, of_flops: None, of_read: None, more })
    }

    /// What it says to a line.
    pub(super) fn answer(&mut self, line: &str) -> Result<Value, BenchError> {
        let input = self.input.as_mut().expect("open until dropped");
        let asked = writeln!(input, "{line}").and_then(|()| input.flush());
        asked.map_err(|error| self.fail(&error.to_string()))?;
        self.line()
    }

    fn line(&mut self) -> Result<Value, BenchError> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).map_err(|error| self.fail(&error.to_string()))?;
        if read == 0 {
            return Err(self.fail("it ended before it answered; its own messages stand above"));
        }
        serde_json::from_str(&line).map_err(|error| self.fail(&format!("{error} in {line:?}")))
    }

    fn fail(&self, reason: &str) -> BenchError {
        BenchError::Peer { command: self.command.clone(), reason: reason.to_owned() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input ends a peer; one that does not care is not waited for.
        drop(self.input.take());
        if self.output.read_line(&mut String::new()).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
