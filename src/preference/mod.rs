//! Preference pairs: what a row is, how files of rows are read, and how they are split.

mod pair;

pub use pair::PreferencePair;
