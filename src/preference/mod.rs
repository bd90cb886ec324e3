//! Preference pairs: what a row is, how files of rows are read, and how they are split.

mod dataset;
mod error;
mod hash;
mod nesting;
mod options;
mod pair;
mod pairing;
mod parquet;
mod raw;
mod rows;
mod split;

pub use dataset::{Dataset, FileReport, read};
pub use error::{Place, PreferenceError, Reason, RowError};
pub use hash::data_hash;
pub use options::{Keys, ReadOptions};
pub use pair::PreferencePair;
pub use split::split;
