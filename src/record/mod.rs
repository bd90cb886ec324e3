//! What a rollout leaves behind: plain data with no tensor and no device in it, and its JSON lines for replay.

mod replay;
mod rollout;

pub use replay::{JudgedRollout, PolicyColumns, RecordError, ReplayReader, ReplayWriter, Side};
pub use rollout::{Finish, Rollout, Sampling, SeedKey};
