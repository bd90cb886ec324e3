use super::Model;
use crate::device::Stream;
use crate::ops::philox::Key;
use crate::ops::{OpError, random};

/// Standard deviation of fresh matrices: Qwen3's `initializer_range`.
const SPREAD: f64 = 0.02;

impl Model {
    /// Fresh weights: matrices normal with mean 0 and spread 0.02, gains 1. Each element depends on the seed, its parameter's
    /// place in the fixed order, and its index alone.
    ///
    /// # Errors
    /// None on the host.
    pub fn initialise(&mut self, stream: &Stream, seed: u64) -> Result<(), OpError> {
        for (place, (id, tensor)) in self.params.iter_mut().enumerate() {
            if id.is_gain() {
                random::constant(stream, tensor.view_mut(), 1.0)?;
            } else {
                random::normal(stream, tensor.view_mut(), Key::of_request(seed, place as u64, 0, 0), SPREAD)?;
            }
        }
        Ok(())
    }
}
