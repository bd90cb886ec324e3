//! Held-out evaluation: pairwise accuracy from pointwise scores, failure rates, and judges that read nothing.

mod accuracy;
mod held_out;
pub mod nulls;

pub use accuracy::{Tally, Unread, compare};
pub use held_out::{Findings, HeldOut, JudgedPair, Summary};
