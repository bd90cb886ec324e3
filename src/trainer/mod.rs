//! The training step that reads in the order of the data path ([`step`]: start here), and the run around it.

mod config;
mod data;
mod error;
mod learner;

pub mod sft;
pub mod step;

pub use config::{
    CheckpointConfig, DataConfig, EvaluationConfig, ModelConfig, ModelDtype, Overlong, RlConfig, RolloutConfig, SftConfig,
    TrainConfig,
};
pub use data::{Lengths, TrainingData, epoch_order};
pub use error::TrainError;
pub use learner::{Learner, Objective, Pass, PassLimits, log_probabilities};

