//! What a rollout leaves behind: a leaf type with no tensor and no device in it.

mod rollout;

pub use rollout::{Finish, Rollout, Sampling, SeedKey};
