use serde_json::Value;

use super::{Factor, Model, ParamId, Params};
use crate::device::Stream;
use crate::ops::philox::Key;
use crate::ops::{OpError, random};

/// Standard deviation of fresh matrices where config.json has no `initializer_range`: Qwen3's own.
const SPREAD: f64 = 0.02;

/// Keeps an adapter's random numbers apart from the weights' own.
const ADAPTER: u32 = 1;

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

    /// A fresh adapter, as peft's: A uniform between ±1 / sqrt(K) (Kaiming's with a = sqrt 5), B 0, so that it adds nothing yet.
    /// Each element depends on the seed, its factor's place in the fixed order, and its index alone.
    ///
    /// # Errors
    /// None on the host.
    pub fn initialise_adapter(&mut self, stream: &Stream, seed: u64) -> Result<(), OpError> {
        for (place, (id, tensor)) in self.adapter.iter_mut().flat_map(Params::iter_mut).enumerate() {
            if let ParamId::Low(_, _, Factor::A(_)) = id {
                let bound = 1.0 / (tensor.dims().last() as f64).sqrt();
                let key = Key::of_request(seed, place as u64, ADAPTER, 0);
                random::uniform(stream, tensor.view_mut(), key, bound)?;
            } else {
                random::constant(stream, tensor.view_mut(), 0.0)?;
            }
        }
        Ok(())
    }
}
