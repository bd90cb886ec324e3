//! Held-out evaluation: pairwise accuracy from pointwise scores, intervals, failure rates, and judges that read nothing.

mod accuracy;
pub mod nulls;

pub use accuracy::{Accuracy, Interval, Tally, Unread, wilson};
