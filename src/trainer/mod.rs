//! The training step that reads in the order of the data path ([`step`]: start here), and the run around it.

mod adapter;
mod alarms;
mod baseline;
mod cold_start;
mod config;
mod credit;
mod data;
mod error;
mod guard;
mod kept;
mod learner;
mod left_out;
mod memory;
mod metrics;
mod outcome;
mod overlong;
mod page;
mod pairs;
mod progress;
mod reference;
pub mod replay;
mod rl_config;
mod run;
mod run_folder;
mod sampling;
mod setup;
pub mod sft;
pub mod step;
mod stop;
pub mod updates;

pub use alarms::{Alarm, AlarmAction, AlarmConfig, AlarmKind, Watch};
pub use config::{
    CheckpointConfig, Contaminated, DataConfig, EvaluationConfig, ModelConfig, ModelDtype, Overlong,
    ReportConfig, RolloutConfig, SftConfig, TrainConfig,
};
pub use data::{Lengths, TrainingData, epoch_order};
pub use error::TrainError;
pub use guard::{Gate, GuardConfig, Outliers, Seen};
pub use learner::{Learner, Objective, Pass, PassLimits, log_probabilities};
pub use left_out::{Batch, LeftOut};
pub use memory::{MemoryConfig, Plan};
pub use outcome::{BaselineRow, Outcome};
pub use overlong::{Fit, fit};
pub use pairs::DataReport;
pub use progress::{Clock, Evaluated, Observer, Phase, Progress};
pub use rl_config::{Baseline, Reference, RlConfig};
pub use run::{HeldOutRun, Run, carve};
pub use run_folder::{Allowed, JudgedResponse, JudgedSample, Resume, RunFolder, Standing, When};
pub use setup::Setup;
pub use stop::Stop;
