//! The model: Qwen3's forward pass over packed tokens and its mirror, the backward pass; Qwen2 and Llama are the same with other
//! flags ([`Family`]). It never sees text and does not know what it is trained for. One forward serves training, prefill and
//! decode; the head is a stage of its own (`ops::head`).

mod activations;
mod adapter;
mod backward;
mod batch;
mod config;
mod family;
mod folder;
mod forward;
mod gradient;
mod init;
mod params;
mod parse;
mod peft;

pub use activations::{Activations, BackwardBuffers, Keep};
pub use adapter::{Factor, LowRank, LowRankError};
pub use backward::{BackwardPass, backward};
pub use batch::Packed;
pub use config::Config;
pub use family::Family;
pub use forward::{forward, kv_pool_dims};
pub use gradient::{Accumulate, GradientSink};
pub use params::{LayerParam, ParamId, Params};
pub use parse::ConfigError;

use crate::ops::rope::Table;
use crate::tensor::{Arena, ArenaError, DType};

/// A model: its shape, its weights, and its rotary table.
#[derive(Debug)]
pub struct Model {
    /// Shape.
    pub config: Config,
    /// Storage of weights and activations; gains and sums are kept in its accumulator.
    pub dtype: DType,
    /// Weights.
    pub params: Params,
    /// The factors of the configuration's adapter; while they are taken off, the model is its base alone.
    pub adapter: Option<Params>,
    /// Cosines and sines of the first positions.
    pub rope: Table,
}

impl Model {
    /// Carves a model for sequences of at most `positions` tokens; the weights are whatever the arena held (zero at first).
    ///
    /// # Errors
    /// When the arena is full.
    pub fn new(
        config: Config,
        dtype: DType,
        positions: usize,
        arena: &mut Arena,
    ) -> Result<Self, ArenaError> {
        let params = Params::weights(&config, dtype, arena)?;
        let adapter = Params::factors(&config, dtype, arena)?;
        let rope = Table::new(positions, config.head_dim, config.rope_theta, dtype.accumulator(), arena)?;
        Ok(Self { config, dtype, params, adapter, rope })
    }

    /// What learns: the adapter's factors, else every weight.
    pub fn learns(&self) -> &Params {
        self.adapter.as_ref().unwrap_or(&self.params)
    }

    /// What learns, for writing.
    pub fn learns_mut(&mut self) -> &mut Params {
        self.adapter.as_mut().unwrap_or(&mut self.params)
    }
}
