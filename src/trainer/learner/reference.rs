use super::Learner;
use crate::device::Stream;
use crate::ops::rows;
use crate::qwen3::Model;
use crate::tensor::{Arena, ArenaError};
use crate::trainer::TrainError;

impl Learner {
    /// Carves a reference for the KL term: a twin of what learns. Of an adapter these are its factors alone; the base is shared.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn with_reference(mut self, arena: &mut Arena) -> Result<Self, ArenaError> {
        self.reference = Some(self.model.learns().twin(arena)?);
        Ok(self)
    }

    /// The weights as they are become the reference, where there is one.
    ///
    /// # Errors
    /// None on the host.
    pub fn renew_reference(&mut self) -> Result<(), TrainError> {
        let Some(reference) = &mut self.reference else { return Ok(()) };
        for (id, tensor) in reference.iter_mut() {
            rows::copy(&self.stream, self.model.learns().get(id), tensor.view_mut())?;
        }
        Ok(())
    }

    /// Runs `f` on the model with the reference's weights in the place of those that learn; none without a reference.
    pub fn under_reference<T>(&mut self, f: impl FnOnce(&Stream, &Model) -> T) -> Option<T> {
        let reference = self.reference.as_mut()?;
        std::mem::swap(self.model.learns_mut(), reference);
        let result = f(&self.stream, &self.model);
        std::mem::swap(self.model.learns_mut(), reference);
        Some(result)
    }
}
