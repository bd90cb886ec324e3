//! Which low-rank addition a run trains, and where its factors come from.

use super::{ModelConfig, TrainConfig, TrainError};
use crate::checkpoint::{CheckpointError, Layout, ModelFolder};
use crate::device::Stream;
use crate::qwen3::{LowRank, Model};

impl ModelConfig {
    /// The adapter's folder and its settings, where one is named.
    ///
    /// # Errors
    /// When it is no adapter that this engine computes.
    pub fn adapter(&self) -> Result<Option<(ModelFolder, LowRank)>, CheckpointError> {
        let Some(path) = &self.adapter else { return Ok(None) };
        let folder = ModelFolder::open_as(path, Layout::Adapter)?;
        let low = LowRank::of(&folder)?;
        Ok(Some((folder, low)))
    }
}

impl TrainConfig {
    /// The addition that learns in the place of the weights: that of `model.adapter`, which goes on learning, or a fresh one of
    /// `lora`.
    ///
    /// # Errors
    /// When the adapter can't be read, both are given and differ, or there is no base that outlives the run.
    pub fn low_rank(&self) -> Result<Option<LowRank>, TrainError> {
        let refuse = |reason: &str| Err(TrainError::Config { setting: "lora".into(), reason: reason.into() });
        match (&self.lora, self.model.adapter()?) {
            (lora, found) if self.model.path.is_none() && (lora.is_some() || found.is_some()) => {
                refuse("an adapter is an addition to a folder's weights: give model.path as well")
            }
            (Some(lora), Some((_, found))) if *lora != found => refuse(
                "model.adapter has another rank, alpha or targets; leave lora out to train that adapter on",
            ),
            (_, Some((_, found))) => Ok(Some(found)),
            (lora, None) => Ok(lora.clone()),
        }
    }

    /// Reads the adapter's factors, or draws fresh ones, which add nothing yet.
    ///
    /// # Errors
    /// When the folder's factors do not fit the model.
    pub fn fill_adapter(&self, model: &mut Model, stream: &Stream) -> Result<(), TrainError> {
        match self.model.adapter()? {
            Some((folder, _)) => Ok(model.read_adapter(&folder, self.model.scan)?),
            None => Ok(model.initialise_adapter(stream, self.seed)?),
        }
    }
}
