//! Samples judgements: prompts in, rollouts out. Sequences live in reference-counted KV blocks; the samples of one prompt share
//! its blocks; as sequences end, waiting requests take their place. What a request draws depends on its prompt, its seeds
//! and its sampling parameters alone, never on what shares its batch.

mod blocks;
mod branches;
mod engine;
mod sampler;
mod sequence;
mod thought;
mod tree;

pub use branches::Branches;
pub use engine::{Engine, Limits, Request, RolloutError};
pub use sampler::Sampler;
pub use thought::Thought;
pub use tree::TokenTree;
