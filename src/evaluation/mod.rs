//! Held-out evaluation: pairwise accuracy from pointwise scores, failure rates, and judges that read nothing.

mod accuracy;
mod held_out;
mod judge;
pub mod nulls;
mod pairwise;

pub use accuracy::{Tally, Unread, compare};
pub use held_out::{Findings, HeldOut, JudgedPair, Summary};
pub use judge::{Judge, JudgeError, Reading, Subject};
pub use pairwise::{Comparison, Judging, PreparedPair};
