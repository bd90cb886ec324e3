use crate::record::Finish;
use crate::rubric::{Ending, FailureKind, PairVerdict, Score, Verdict, VerdictError};

/// What a sampled judgement is to the reward: a score, or the reason why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// The judgement keeps to the grammar.
    Valid(Score),
    /// It does not.
    Failed(FailureKind),
}

impl Judgement {
    /// The score, where there is one.
    pub fn score(self) -> Option<Score> {
        match self {
            Self::Valid(score) => Some(score),
            Self::Failed(_) => None,
        }
    }
}

impl From<&Result<Verdict, VerdictError>> for Judgement {
    fn from(read: &Result<Verdict, VerdictError>) -> Self {
        match read {
            Ok(verdict) => Self::Valid(verdict.score),
            Err(error) => Self::Failed(error.kind()),
        }
    }
}

/// Reads a rollout's text (without its end-of-sequence token) as a verdict.
///
/// # Errors
/// As [`Verdict::parse`].
pub fn read(text: &str, finish: Finish) -> Result<Verdict, VerdictError> {
    Verdict::parse(text, ending(finish))
}

/// Reads it as a verdict on two responses side by side.
///
/// # Errors
/// As [`PairVerdict::parse`].
pub fn read_pair(text: &str, finish: Finish) -> Result<PairVerdict, VerdictError> {
    PairVerdict::parse(text, ending(finish))
}

fn ending(finish: Finish) -> Ending {
    match finish {
        Finish::Stop => Ending::Stopped,
        Finish::Length => Ending::CutOff,
    }
}
