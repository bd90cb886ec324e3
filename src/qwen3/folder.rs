use std::path::Path;

use serde_json::Value;

use super::{Config, ConfigError, Model, ParamId, Params};
use crate::checkpoint::{CheckpointError, Expected, Layout, ModelFolder, Named, Scan, Tied};
use crate::device::DeviceError;

impl Config {
    /// The configuration of a Hugging Face folder.
    ///
    /// # Errors
    /// When it is not a model that this engine computes.
    pub fn of(folder: &ModelFolder) -> Result<Self, ConfigError> {
        Self::parse(&folder.config_json().to_string())
    }

    /// Holds a folder's headers against this configuration: every weight there, of its shape, and no other. Nothing is
    /// allocated or read. A tied model's file may hold the head as well if it equals the embedding.
    ///
    /// # Errors
    /// The first weight that is missing, unexpected, or of another shape or dtype.
    pub fn check_folder(&self, folder: &ModelFolder) -> Result<(), CheckpointError> {
        let expected: Vec<_> =
            ParamId::all(self).map(|id| Expected { name: id.name(), dims: id.dims(self) }).collect();
        let (head, embedding) = (ParamId::Head.name(), ParamId::Embedding.name());
        folder.check(&expected, self.tied.then_some(Tied { name: &head, of: &embedding }))
    }
}

impl Model {
    /// Reads every weight of a folder, converted to this model's dtypes.
    ///
    /// # Errors
    /// When the folder does not fit the configuration, or holds what `scan` refuses.
    pub fn read(&mut self, folder: &ModelFolder, scan: Scan) -> Result<(), CheckpointError> {
        self.config.check_folder(folder)?;
        for (id, tensor) in self.params.iter_mut() {
            folder.read(&id.name(), tensor.view_mut(), scan)?;
        }
        Ok(())
    }

    /// How a folder of what learns is laid out, and its configuration; `base` names an adapter's base.
    pub fn described(&self, base: Option<&str>) -> (Layout, Value) {
        match (&self.adapter, &self.config.adapter) {
            (Some(_), Some(low)) => (Layout::Adapter, low.to_peft(base)),
            _ => {
                let config = serde_json::from_str(&self.config.to_json(self.dtype));
                (Layout::Model, config.expect("a configuration is written as JSON"))
            }
        }
    }

    /// Reads what learns back, bit for bit, from a folder that was written of it.
    ///
    /// # Errors
    /// When the folder is of another layout or does not fit.
    pub fn read_back(&mut self, path: &Path) -> Result<(), CheckpointError> {
        match self.adapter {
            Some(_) => self.read_adapter(&ModelFolder::open_as(path, Layout::Adapter)?, Scan::Skip),
            None => self.read(&ModelFolder::open(path)?, Scan::Skip),
        }
    }
}

impl Params {
    /// Every tensor under its name in a Hugging Face file, in the fixed order.
    pub fn named(&self) -> Vec<Named<'_>> {
        self.iter().map(|(id, tensor)| Named { name: id.name(), tensor: tensor.view() }).collect()
    }

    /// blake3 of every name and every bit, hexadecimal.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn hash(&self) -> Result<String, DeviceError> {
        let mut hasher = blake3::Hasher::new();
        for Named { name, tensor } in self.named() {
            hasher.update(name.as_bytes());
            hasher.update(&tensor.read_bytes()?);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}
