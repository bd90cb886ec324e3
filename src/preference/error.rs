use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

/// Why preference data could not be read.
#[derive(Debug, Error)]
pub enum PreferenceError {
    /// A file or folder could not be read, or its compressed stream is damaged.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder without a data file.
    #[error("{path}: no .jsonl, .json (each also .gz or .zst) or .parquet file in this folder")]
    NoData {
        /// The folder.
        path: PathBuf,
    },
    /// A file whose name tells no known format.
    #[error("{path}: unknown format; rename it to .jsonl, .json (each also .gz or .zst) or .parquet")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A Parquet file that is damaged, or that has a column this reader cannot express.
    #[error("{path}: not a readable Parquet file: {reason}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// One bad row more than allowed.
    #[error("{row} (bad row {}; `skip_bad` allows {allowed})", allowed + 1)]
    BadRow {
        /// Which row, and why.
        row: Box<RowError>,
        /// How many were allowed.
        allowed: usize,
    },
}

/// Where a row stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Line of a text file, from 1; of a JSON array, the line where the element starts.
    Line(usize),
    /// Row of a Parquet file, from 0.
    Row(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A row that is no preference pair.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
pub struct RowError {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// The field at fault (`chosen`, `messages[2].role`); `None` where it is the row as a whole.
    pub field: Option<String>,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.place)?;
        match &self.field {
            Some(field) => write!(f, "`{field}`: {}", self.reason),
            None => write!(f, "{}", self.reason),
        }
    }
}

/// What can be wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// The row ends in the middle of its JSON.
    #[error("the JSON is cut short")]
    CutShort,
    /// Bytes that are no UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Text that is no JSON.
    #[error("not JSON: {detail}")]
    NotJson {
        /// What the parser said.
        detail: String,
    },
    /// JSON, but not what the command reads.
    #[error("{detail}")]
    Unfit {
        /// What is missing, of a wrong type, or too much.
        detail: String,
    },
    /// JSON, but no object.
    #[error("not a JSON object")]
    NotAnObject,
    /// JSON nested deeper than any row needs.
    #[error("the JSON is nested too deeply")]
    TooDeep,
    /// An escape that is half of a UTF-16 pair.
    #[error("a lone surrogate escape, which is no character")]
    LoneSurrogate,
    /// A row longer than four cells may be.
    #[error("the row is longer than {limit} bytes")]
    OversizedRow {
        /// The limit in bytes.
        limit: usize,
    },
    /// A text longer than a cell may be.
    #[error("{bytes} bytes are more than a cell may have ({limit})")]
    OversizedCell {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A conversation of more turns than any row needs.
    #[error("more than {limit} turns")]
    TooManyTurns {
        /// The limit.
        limit: usize,
    },
    /// A text with a NUL character.
    #[error("a NUL character")]
    ContainsNul,
    /// A field that must be there is not, or is null.
    #[error("missing")]
    Missing,
    /// A value of a kind that does not belong there.
    #[error("expected {expected}")]
    WrongType {
        /// What belongs there.
        expected: &'static str,
    },
    /// A turn that does not say who speaks.
    #[error("a turn without a role")]
    MissingRole,
    /// A role that nobody has.
    #[error("unknown role {role:?}; known are system, user, assistant and tool")]
    UnknownRole {
        /// The role.
        role: String,
    },
    /// Part of a turn that no judge is shown.
    #[error("not shown to judges: write it into `content`, or leave it out of the row")]
    Unread,
    /// One response is text, the other a list of turns, with no prompt to tell them apart.
    #[error("chosen and rejected must both be text or both be lists of turns where there is no prompt")]
    MixedForms,
    /// Two responses that share no prompt.
    #[error("chosen and rejected have no common beginning that could be the prompt")]
    NoCommonPrefix,
    /// A prompt that is none of the turns it should be part of.
    #[error("the prompt is not among the user turns of the conversation")]
    ForeignPrompt,
    /// A prompt without text or turns.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A prompt that waits for nobody's answer.
    #[error("the last turn before the response is neither a user's nor a tool's")]
    PromptAnswered,
    /// A response that ends with somebody else's turn.
    #[error("the last turn is not the assistant's")]
    LastTurnNotAssistant,
    /// A response of several turns after the prompt.
    #[error("the response is {turns} turns after the prompt instead of one")]
    SeveralTurns {
        /// How many there are.
        turns: usize,
    },
    /// A response without text.
    #[error("the response is empty")]
    EmptyResponse,
    /// Nothing to prefer.
    #[error("chosen equals rejected")]
    ChosenEqualsRejected,
}

/// What is wrong with which field, before it is known where the row stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: Option<String>,
    pub(super) reason: Reason,
}

impl Fault {
    pub(super) fn row(reason: Reason) -> Self {
        Self { field: None, reason }
    }

    pub(super) fn field(field: &str, reason: Reason) -> Self {
        Self { field: Some(field.to_owned()), reason }
    }
}
