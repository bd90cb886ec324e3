use serde::{Deserialize, Serialize};

/// How files of preference pairs are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// Task of rows without a `task` field. Default `chat`.
    pub default_task: String,
    /// How many bad rows are left out and listed before one more is an error. Default 0: the first is.
    pub skip_bad: usize,
    /// The longest text in a row, in bytes; a row may have four times that. Default 10,000,000.
    pub max_cell_bytes: usize,
    /// What the fields are called.
    pub keys: Keys,
}

impl ReadOptions {
    /// The longest row, in bytes.
    pub fn longest_row(&self) -> usize {
        self.max_cell_bytes.saturating_mul(4)
    }
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { default_task: "chat".into(), skip_bad: 0, max_cell_bytes: 10_000_000, keys: Keys::default() }
    }
}

/// Names of a row's fields, for files that call them otherwise (OpenRLHF's `input_key`, `chosen_key`, `rejected_key`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// The prompt, text or turns. Default `prompt`; where a row has none, `messages` is read.
    pub prompt: String,
    /// The preferred response. Default `chosen`.
    pub chosen: String,
    /// The other response. Default `rejected`.
    pub rejected: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self { prompt: "prompt".into(), chosen: "chosen".into(), rejected: "rejected".into() }
    }
}
