use std::path::Path;

/// The two kinds of folders that hold weights, by the names of their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A whole model, as Hugging Face's transformers save it: config.json, model.safetensors.
    Model,
    /// What is added to a model, as peft saves it: adapter_config.json, adapter_model.safetensors.
    Adapter,
}

impl Layout {
    /// Which of the two a folder is.
    pub fn of(folder: &Path) -> Self {
        let adapter = folder.join(Self::Adapter.config()).exists();
        if adapter && !folder.join(Self::Model.config()).exists() { Self::Adapter } else { Self::Model }
    }

    /// Name of the configuration.
    pub(super) fn config(self) -> &'static str {
        match self {
            Self::Model => "config.json",
            Self::Adapter => "adapter_config.json",
        }
    }

    /// Name of the file of weights, without `.safetensors`.
    pub(super) fn weights(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Adapter => "adapter_model",
        }
    }

    /// Why a folder without this configuration can't be used as such.
    pub(super) fn missing(self, folder: &Path) -> &'static str {
        match (self, Self::of(folder)) {
            (Self::Model, Self::Adapter) => {
                "missing: this folder is an adapter; name its base's folder, and this one as the adapter"
            }
            (Self::Model, Self::Model) => "missing: not a model folder",
            (Self::Adapter, _) => "missing: not an adapter's folder in peft's layout",
        }
    }
}
