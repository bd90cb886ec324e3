//! Held-out evaluation: pairwise accuracy of judges that see one response or two, failure rates, and judges that read nothing.

mod accuracy;
mod comparison;
mod expected;
mod held_out;
mod judge;
mod judging;
pub mod nulls;
mod thinking;

pub use accuracy::{Tally, Unread, compare};
pub use comparison::{Comparison, PreparedPair, Readings};
pub use expected::{Expected, Spellings};
pub use held_out::{Findings, HeldOut, JudgedPair, Summary, Swaps};
pub use judge::{Judge, JudgeError, Reading, Subject};
pub use judging::{Judging, Mode, PairJudgement, ScoreReading, Vote};
