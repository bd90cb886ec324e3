use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::shard::Shard;
use super::{CheckpointError, Fault, Named, Scan, Stored, config};
use crate::tensor::ViewMut;

pub(super) const FACTS: &str = "state.json";
pub(super) const TENSORS: &str = "state.safetensors";

/// What a resumed run needs beside the weights, bit-exact. The trainer gives it its meaning.
#[derive(Clone, Debug)]
pub struct State<'a> {
    /// Optimizer updates so far.
    pub step: u64,
    /// The held-out metric at this step, if it was measured.
    pub score: Option<f64>,
    /// Counters, seed keys, position in the data, resolved configuration.
    pub facts: &'a Value,
    /// Optimizer moments and the like, in their own dtypes.
    pub tensors: &'a [Named<'a>],
}

/// A training state that was read back.
#[derive(Debug)]
pub struct SavedState {
    facts: Value,
    shard: Shard,
    at: std::path::PathBuf,
}

impl SavedState {
    /// Opens the training state of a complete checkpoint.
    ///
    /// # Errors
    /// When the folder holds none, or it is malformed.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let at = folder.join(FACTS);
        let missing = || {
            CheckpointError::malformed(
                &at,
                "missing: a model folder, not a checkpoint of a run; nothing to resume",
            )
        };
        let facts = config::read_json(&at)?.ok_or_else(missing)?;
        Ok(Self { facts, shard: Shard::open(folder.join(TENSORS))?, at })
    }

    /// The facts as a typed value.
    ///
    /// # Errors
    /// When they do not fit `T`.
    pub fn facts<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        T::deserialize(&self.facts).map_err(|e| CheckpointError::malformed(&self.at, e.to_string()))
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shard.entries.keys().map(String::as_str)
    }

    /// Reads a tensor bit for bit: dtype and shape must be those of `out`.
    ///
    /// # Errors
    /// When it is missing, or of another dtype or shape.
    pub fn read(&self, name: &str, out: ViewMut<'_>) -> Result<(), CheckpointError> {
        let (found, expected) = (self.shard.entry(name)?.stored, Stored::from(out.dtype()));
        if found != expected {
            return Err(self.shard.fault(name, Fault::StoredAs { found, expected }));
        }
        self.shard.read(name, out, Scan::Skip)
    }
}
