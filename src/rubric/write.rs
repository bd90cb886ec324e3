use thiserror::Error;

use super::{Ending, Verdict, VerdictError};

/// The verdict's own words break the output grammar: it cannot be written so that it reads back the same.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnwritableVerdict {
    /// The text would be refused.
    #[error("this verdict cannot be written in the output grammar: {0}")]
    Refused(#[from] VerdictError),
    /// The text would read as another verdict (a name with a colon, a line break, white space at an end).
    #[error(
        "this verdict would read back as another one: look for a colon, line break or outer white space in its words"
    )]
    ReadsOtherwise,
}

/// White space between the parts of a written verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Tags on lines of their own.
    Spread,
    /// Line feeds only between the lines of a part.
    Compact,
}

/// Writes a verdict, as a cold-start target; [`Verdict::parse`] gives the same verdict back.
///
/// # Errors
/// Where the verdict's words would break the grammar.
pub fn format_verdict(verdict: &Verdict, spacing: Spacing) -> Result<String, UnwritableVerdict> {
    let gap = match spacing {
        Spacing::Spread => "\n",
        Spacing::Compact => "",
    };
    let criteria: Vec<_> =
        verdict.rubric.iter().map(|c| format!("{}: {} ({})", c.name, c.text, c.weight)).collect();
    let remarks: Vec<_> = verdict.eval.iter().map(|r| format!("{}: {}", r.name, r.text)).collect();
    let (criteria, remarks, score) = (criteria.join("\n"), remarks.join("\n"), verdict.score);
    let text = format!(
        "<rubric>{gap}{criteria}{gap}</rubric>{gap}<eval>{gap}{remarks}{gap}</eval>{gap}<score>{score}</score>"
    );
    if Verdict::parse(&text, Ending::Stopped)? == *verdict {
        Ok(text)
    } else {
        Err(UnwritableVerdict::ReadsOtherwise)
    }
}
