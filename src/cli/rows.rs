use std::fs::File;
use std::io::{self, BufRead, BufReader, Lines};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::tokenizer::{Message, Role};

/// A row that can't be used, or a file that can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Form(&'static str),
    #[error(
        "prompt and answer may come to {longest} tokens, the model has {room} positions: shorten the text or lower rollout.max_new_tokens"
    )]
    TooLong { longest: usize, room: usize },
    #[error("{0}: {1}")]
    Row(Place, String),
}

/// Where a row stands: file:line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    pub(super) line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

impl Place {
    pub(super) fn refuse(&self, reason: impl ToString) -> InputError {
        InputError::Row(self.clone(), reason.to_string())
    }
}

/// The rows of a file of JSON lines, one at a time; blank lines do not count.
pub(super) struct Rows<T> {
    path: PathBuf,
    lines: std::iter::Enumerate<Lines<BufReader<File>>>,
    row: PhantomData<T>,
}

impl<T: DeserializeOwned> Rows<T> {
    pub(super) fn open(path: &Path) -> Result<Self, InputError> {
        let file = File::open(path).map_err(|source| InputError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), lines: BufReader::new(file).lines().enumerate(), row: PhantomData })
    }
}

impl<T: DeserializeOwned> Iterator for Rows<T> {
    type Item = Result<(Place, T), InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (number, line) = self.lines.next()?;
            let place = Place { path: self.path.clone(), line: number + 1 };
            let parsed = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => serde_json::from_str(&line).map_err(|e| place.refuse(format!("not a row: {e}"))),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(place.refuse("not UTF-8")),
                Err(source) => Err(InputError::File { path: self.path.clone(), source }),
            };
            return Some(parsed.map(|row| (place, row)));
        }
    }
}

/// A prompt as rows give it: plain text, which stands for one user turn, or turns.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Said {
    Text(String),
    Turns(Vec<Message>),
}

impl Said {
    /// As a conversation; text is a turn of `role`.
    pub(super) fn turns(self, role: Role) -> Vec<Message> {
        match self {
            Self::Text(text) => vec![Message::new(role, text)],
            Self::Turns(turns) => turns,
        }
    }
}
