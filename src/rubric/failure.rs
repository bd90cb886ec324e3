use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a judgement's text holds no verdict. Never a number.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VerdictError {
    /// Nothing but white space was written.
    #[error("the judgement is empty")]
    Silent,
    /// The token limit came before the last tag; no tag until there is doubled or out of order.
    #[error("the judgement was cut off before `{awaited}`")]
    CutOff {
        /// The first tag that had not been written yet.
        awaited: &'static str,
    },
    /// A tag does not occur.
    #[error("the judgement has no `{tag}`")]
    MissingTag {
        /// The first missing tag.
        tag: &'static str,
    },
    /// A tag occurs twice or more.
    #[error("the judgement has `{tag}` more than once")]
    Doubled {
        /// The repeated tag.
        tag: &'static str,
    },
    /// A tag stands before one that must precede it, or thinking stands anywhere but first.
    #[error("`{tag}` is out of order in the judgement")]
    WrongOrder {
        /// The misplaced tag.
        tag: &'static str,
    },
    /// There is text outside the three parts.
    #[error("text outside the tags, before or after `{tag}`: `{text}`")]
    StrayText {
        /// The tag that follows the text, or the last one.
        tag: &'static str,
        /// The beginning of the text.
        text: String,
    },
    /// A part has no line.
    #[error("there is nothing between `{tag}` and its end")]
    EmptyPart {
        /// The part's opening tag.
        tag: &'static str,
    },
    /// A line of a part does not have the part's form.
    #[error("line {line} after `{tag}` is not of the form `{form}`")]
    BadLine {
        /// The part's opening tag.
        tag: &'static str,
        /// Number of the line within the part, from 1, blank lines not counted.
        line: usize,
        /// The form that it should have.
        form: &'static str,
    },
    /// The score is not a number with at most one decimal.
    #[error("`{text}` is not a score: a number from 1 to 10 with at most one decimal is needed")]
    InvalidScore {
        /// What was written, its first 40 characters.
        text: String,
    },
    /// Two scores were to be written, and there is one, or more than two.
    #[error("`{text}` is not two scores with a comma between them")]
    ScoreCount {
        /// What was written, its first 40 characters.
        text: String,
    },
    /// The score is a number beyond the scale.
    #[error("the score `{text}` is outside 1 to 10")]
    OutOfRange {
        /// What was written, its first 40 characters.
        text: String,
    },
}

/// The kind of a [`VerdictError`], for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// [`VerdictError::Silent`]
    Silent,
    /// [`VerdictError::CutOff`]
    CutOff,
    /// [`VerdictError::MissingTag`]
    MissingTag,
    /// [`VerdictError::Doubled`]
    Doubled,
    /// [`VerdictError::WrongOrder`]
    WrongOrder,
    /// [`VerdictError::StrayText`]
    StrayText,
    /// [`VerdictError::EmptyPart`]
    EmptyPart,
    /// [`VerdictError::BadLine`]
    BadLine,
    /// [`VerdictError::InvalidScore`]
    InvalidScore,
    /// [`VerdictError::ScoreCount`]
    ScoreCount,
    /// [`VerdictError::OutOfRange`]
    OutOfRange,
}

impl FailureKind {
    /// All kinds, in the order of tables.
    pub const ALL: [Self; 11] = [
        Self::Silent,
        Self::CutOff,
        Self::MissingTag,
        Self::Doubled,
        Self::WrongOrder,
        Self::StrayText,
        Self::EmptyPart,
        Self::BadLine,
        Self::InvalidScore,
        Self::ScoreCount,
        Self::OutOfRange,
    ];

    /// Snake-case name, as in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::CutOff => "cut_off",
            Self::MissingTag => "missing_tag",
            Self::Doubled => "doubled",
            Self::WrongOrder => "wrong_order",
            Self::StrayText => "stray_text",
            Self::EmptyPart => "empty_part",
            Self::BadLine => "bad_line",
            Self::InvalidScore => "invalid_score",
            Self::ScoreCount => "score_count",
            Self::OutOfRange => "out_of_range",
        }
    }
}

impl std::fmt::Display for FailureKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl VerdictError {
    /// The kind, without the particulars.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Silent => FailureKind::Silent,
            Self::CutOff { .. } => FailureKind::CutOff,
            Self::MissingTag { .. } => FailureKind::MissingTag,
            Self::Doubled { .. } => FailureKind::Doubled,
            Self::WrongOrder { .. } => FailureKind::WrongOrder,
            Self::StrayText { .. } => FailureKind::StrayText,
            Self::EmptyPart { .. } => FailureKind::EmptyPart,
            Self::BadLine { .. } => FailureKind::BadLine,
            Self::InvalidScore { .. } => FailureKind::InvalidScore,
            Self::ScoreCount { .. } => FailureKind::ScoreCount,
            Self::OutOfRange { .. } => FailureKind::OutOfRange,
        }
    }
}
