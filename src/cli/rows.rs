use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::preference::{self, ReadOptions, Reason, RowError, TextRows};
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
    #[error(transparent)]
    Row(Box<RowError>),
}

/// Where a row stands: file:line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

impl Place {
    pub(super) fn refuse(&self, reason: impl ToString) -> InputError {
        self.error(None, Reason::Unfit { detail: reason.to_string() })
    }

    /// Refuses what a field says.
    pub(super) fn bad(&self, field: &str, reason: Reason) -> InputError {
        self.error(Some(field.to_owned()), reason)
    }

    fn error(&self, field: Option<String>, reason: Reason) -> InputError {
        let (file, place) = (self.path.clone(), preference::Place::Line(self.line));
        InputError::Row(Box::new(RowError { file, place, field, reason }))
    }
}

/// The rows of a file of JSON lines, one at a time; blank lines do not count.
pub(super) struct Rows<T> {
    path: PathBuf,
    rows: TextRows,
    row: PhantomData<T>,
}

impl<T: DeserializeOwned> Rows<T> {
    pub(super) fn open(path: &Path) -> Result<Self, InputError> {
        let rows = TextRows::open(path, ReadOptions::default().longest_row());
        let rows = rows.map_err(|source| InputError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), rows, row: PhantomData })
    }
}

impl<T: DeserializeOwned> Iterator for Rows<T> {
    type Item = Result<(Place, T), InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?.map_err(|source| InputError::File { path: self.path.clone(), source });
        Some(row.and_then(|(line, bytes)| {
            let place = Place { path: self.path.clone(), line };
            let parsed = bytes.and_then(|bytes| preference::parse_row(&bytes));
            parsed.map_err(|reason| place.error(None, reason)).map(|row| (place, row))
        }))
    }
}

/// Rows that cannot be used, as long as there may be some.
#[derive(Debug)]
pub(super) struct Rejects {
    allowed: usize,
    pub(super) rows: Vec<RowError>,
}

impl Rejects {
    pub(super) fn new(allowed: usize) -> Self {
        Self { allowed, rows: Vec::new() }
    }

    /// Lists what is wrong with a row; any other error, and one bad row too many, come back.
    pub(super) fn take(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        match error.downcast::<InputError>() {
            Ok(InputError::Row(row)) if self.rows.len() < self.allowed => {
                self.rows.push(*row);
                Ok(())
            }
            Ok(error) => Err(error.into()),
            Err(error) => Err(error),
        }
    }
}

/// Turns of one conversation beyond which a row is refused.
const MOST_TURNS: usize = 1024;

/// A prompt as rows give it: plain text, which stands for one user turn, or turns.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Text(String),
    Turns(Vec<Message>),
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SaidVisitor)
    }
}

/// Reads without holding what is neither text nor turns.
struct SaidVisitor;

impl<'de> Visitor<'de> for SaidVisitor {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a list of turns")
    }

    fn visit_str<E>(self, text: &str) -> Result<Said, E> {
        Ok(Said::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Said, A::Error> {
        let mut turns = Vec::new();
        while let Some(turn) = elements.next_element()? {
            if turns.len() == MOST_TURNS {
                return Err(A::Error::custom(format!("more than {MOST_TURNS} turns")));
            }
            turns.push(turn);
        }
        Ok(Said::Turns(turns))
    }
}

/// An id as rows give it.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Id(#[serde(deserialize_with = "label")] pub(super) Value);

/// Text or a number; nothing else is held.
fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    struct Label;
    impl Visitor<'_> for Label {
        type Value = Value;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text or a number")
        }
        fn visit_str<E>(self, text: &str) -> Result<Value, E> {
            Ok(text.into())
        }
        fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
            Ok(number.into())
        }
        fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
            Ok(number.into())
        }
        fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
            Ok(number.into())
        }
    }
    deserializer.deserialize_any(Label)
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
