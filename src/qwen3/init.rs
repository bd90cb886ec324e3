use serde_json::Value;

use super::Model;
use crate::device::Stream;
use crate::ops::philox::Key;
use crate::ops::{OpError, random};

/// Standard deviation of fresh matrices where config.json has no `initializer_range`: Qwen3's own.
const SPREAD: f64 = 0.02;

impl Model {
    /// Fresh weights: matrices normal with mean 0 and config.json's `initializer_range`, gains 1, biases 0. Each element depends on the seed, its parameter's
    /// place in the fixed order, and its index alone.
    ///
    /// # Errors
    /// None on the host.
    pub fn initialise(&mut self, stream: &Stream, seed: u64) -> Result<(), OpError> {
        let spread = self.config.other.get("initializer_range").and_then(Value::as_f64).unwrap_or(SPREAD);
        for (place, (id, tensor)) in self.params.iter_mut().enumerate() {
            if id.is_gain() {
                random::constant(stream, tensor.view_mut(), 1.0)?;
            } else if id.is_bias() {
                random::constant(stream, tensor.view_mut(), 0.0)?;
            } else {
                random::normal(stream, tensor.view_mut(), Key::of_request(seed, place as u64, 0, 0), spread)?;
            }
        }
        Ok(())
    }
}
