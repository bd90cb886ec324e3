use std::ops::ControlFlow;

use super::{Branches, Engine, Request, RolloutError};
use crate::device::Stream;
use crate::qwen3::Model;
use crate::record::Rollout;

/// A model ready to be sampled from.
#[derive(Debug)]
pub struct Sampler<'a> {
    /// Where it runs.
    pub stream: &'a Stream,
    /// The weights.
    pub model: &'a Model,
    /// Their version: the number of optimizer updates so far.
    pub weights_version: u64,
    /// Buffers and KV pool.
    pub engine: Engine,
}

impl Sampler<'_> {
    /// Serves all requests; rollouts come back in their order, samples of a request together. `watch` hears how many samples
    /// have ended and how many tokens have been drawn, and says whether to go on.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn generate(
        &mut self,
        requests: &[Request],
        watch: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Rollout>, RolloutError> {
        self.engine.generate(self.stream, self.model, self.weights_version, requests, watch)
    }

    /// Log-probability of every continuation of every one of `all`, teacher-forced. `watch` hears how many are done, and says
    /// whether to go on.
    ///
    /// # Errors
    /// As [`Engine::log_probabilities`].
    pub fn log_probabilities(
        &mut self,
        temperature: f32,
        all: &[Branches],
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f64>>, RolloutError> {
        self.engine.log_probabilities((self.stream, self.model), temperature, all, watch)
    }
}
