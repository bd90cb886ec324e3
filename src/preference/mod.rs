//! Preference pairs: what a row is, how files of rows are read, and how they are split.

mod contamination;
mod dataset;
mod error;
mod hash;
mod nesting;
mod options;
mod pages;
mod pair;
mod pairing;
mod parquet;
mod raw;
mod rows;
mod split;

pub use contamination::{Contamination, REPEATED_WORDS, contamination};
pub use dataset::{Dataset, FileReport, read};
pub use error::{Place, PreferenceError, Reason, RowError};
pub use hash::data_hash;
pub use options::{Keys, ReadOptions};
pub use pair::PreferencePair;
pub use raw::parse_row;
pub use rows::{TextRow, TextRows};
pub use split::split;
