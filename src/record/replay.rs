use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Rollout;

/// Which response of a pair was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The preferred one.
    Chosen,
    /// The other one.
    Rejected,
}

/// One line of a replay file: a rollout, whose judgement it is, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedRollout {
    /// Id of the pair.
    pub pair: String,
    /// The response that was judged.
    pub side: Side,
    /// The judgement's text.
    pub text: String,
    /// Score on the 1 to 10 scale; `None` where the text holds no verdict.
    pub score: Option<f64>,
    /// Name of the failure where the text holds no verdict.
    pub failure: Option<String>,
    /// Reward; `None` where the judgement was masked.
    pub reward: Option<f64>,
    /// The tokens and all that sampling stored of them.
    pub rollout: Rollout,
    /// ln p of every token under the reference of the KL terms, where the step asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Vec<f32>>,
    /// What the policy that learns says of the tokens; left out where it is the one that drew them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyColumns>,
}

/// What a policy says of tokens that another one drew, one entry each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyColumns {
    /// Log-probabilities, nats.
    pub logprob: Vec<f32>,
    /// Entropies, nats.
    pub entropy: Vec<f32>,
}

/// What can be wrong with a replay file. A line is never half read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file cannot be read or written.
    #[error("{path}:{line}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not a judged rollout.
    #[error("{path}:{line}: not a judged rollout: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Where in the line and why.
        source: serde_json::Error,
    },
    /// A number that JSON cannot hold.
    #[error("{path}:{line}: `{field}`[{index}] is {value}: only finite numbers can be stored")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The field.
        field: &'static str,
        /// Position within the field, from 0.
        index: usize,
        /// The number.
        value: f64,
    },
    /// The forced positions are not places in the completion, each once and ascending.
    #[error("{path}:{line}: `forced` must name places among the {expected} tokens, ascending, each once")]
    Forced {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Number of tokens.
        expected: usize,
    },
    /// A judgement that could not have been drawn with the others of its step, or not by this model.
    #[error("a judgement of pair {pair}: {reason}")]
    Unfit {
        /// Id of the pair.
        pair: String,
        /// Why.
        reason: String,
    },
    /// A per-token field does not have one value for each token.
    #[error("{path}:{line}: `{field}` has {found} values for {expected} tokens")]
    Length {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The field.
        field: &'static str,
        /// Number of tokens.
        expected: usize,
        /// Number of values.
        found: usize,
    },
}

/// A place in a file, for errors.
struct Place {
    path: PathBuf,
    line: u64,
}

impl Place {
    fn file(&self, source: std::io::Error) -> RecordError {
        RecordError::File { path: self.path.clone(), line: self.line, source }
    }

    fn json(&self, source: serde_json::Error) -> RecordError {
        RecordError::Line { path: self.path.clone(), line: self.line, source }
    }

    /// Per-token fields have the completion's length, and every number is finite.
    fn check(&self, judged: &JudgedRollout) -> Result<(), RecordError> {
        let rollout = &judged.rollout;
        let expected = rollout.completion.len();
        let per_token = [("logprob", &rollout.logprob), ("lse", &rollout.lse), ("entropy", &rollout.entropy)];
        let policy = judged
            .policy
            .iter()
            .flat_map(|p| [("policy.logprob", &p.logprob), ("policy.entropy", &p.entropy)]);
        let reference = judged.reference.iter().map(|values| ("reference", values));
        for (field, values) in per_token.into_iter().chain(policy).chain(reference) {
            if values.len() != expected {
                let (path, line, found) = (self.path.clone(), self.line, values.len());
                return Err(RecordError::Length { path, line, field, expected, found });
            }
            self.finite(field, values.iter().map(|value| f64::from(*value)))?;
        }
        let within = rollout.forced.last().is_none_or(|last| (*last as usize) < expected);
        if !within || !rollout.forced.is_sorted_by(|a, b| a < b) {
            return Err(RecordError::Forced { path: self.path.clone(), line: self.line, expected });
        }
        let sampling = &rollout.sampling;
        let drawn = [sampling.temperature, sampling.top_p, sampling.min_p].map(f64::from);
        self.finite("sampling", drawn.into_iter())?;
        self.finite("score", judged.score.into_iter())?;
        self.finite("reward", judged.reward.into_iter())
    }

    fn finite(&self, field: &'static str, values: impl Iterator<Item = f64>) -> Result<(), RecordError> {
        match values.enumerate().find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((index, value)) => {
                let (path, line) = (self.path.clone(), self.line);
                Err(RecordError::NotFinite { path, line, field, index, value })
            }
        }
    }
}

/// Writes judged rollouts as JSON lines. What [`ReplayReader`] reads back is equal bit for bit.
pub struct ReplayWriter<W> {
    to: W,
    place: Place,
}

impl<W: Write> ReplayWriter<W> {
    /// A writer to `to`; `path` is what errors call it.
    pub fn new(to: W, path: &Path) -> Self {
        Self { to, place: Place { path: path.into(), line: 0 } }
    }

    /// Writes one line; an unsound rollout is refused before anything is written.
    ///
    /// # Errors
    /// [`RecordError::Length`] and [`RecordError::NotFinite`] for what could not be read back, and what the system says.
    pub fn write(&mut self, judged: &JudgedRollout) -> Result<(), RecordError> {
        self.place.line += 1;
        self.place.check(judged)?;
        let mut line = serde_json::to_vec(judged).map_err(|source| self.place.json(source))?;
        line.push(b'\n');
        self.to.write_all(&line).map_err(|source| self.place.file(source))
    }

    /// Flushes and gives back what was written to.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(mut self) -> Result<W, RecordError> {
        self.to.flush().map_err(|source| self.place.file(source))?;
        Ok(self.to)
    }
}

/// Reads the lines of a [`ReplayWriter`] one by one. Neighbouring rollouts of one prompt share it in memory again.
pub struct ReplayReader<R> {
    from: R,
    place: Place,
    last_prompt: Option<Arc<[crate::tokenizer::TokenId]>>,
}

impl<R: BufRead> ReplayReader<R> {
    /// A reader of `from`; `path` is what errors call it.
    pub fn new(from: R, path: &Path) -> Self {
        Self { from, place: Place { path: path.into(), line: 0 }, last_prompt: None }
    }

    fn read(&mut self) -> Result<Option<JudgedRollout>, RecordError> {
        self.place.line += 1;
        let mut line = Vec::new();
        if self.from.read_until(b'\n', &mut line).map_err(|source| self.place.file(source))? == 0 {
            return Ok(None);
        }
        let mut judged: JudgedRollout =
            serde_json::from_slice(&line).map_err(|source| self.place.json(source))?;
        self.place.check(&judged)?;
        match &self.last_prompt {
            Some(last) if *last == judged.rollout.prompt => judged.rollout.prompt = Arc::clone(last),
            _ => self.last_prompt = Some(Arc::clone(&judged.rollout.prompt)),
        }
        Ok(Some(judged))
    }
}

impl<R: BufRead> Iterator for ReplayReader<R> {
    type Item = Result<JudgedRollout, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
