use std::collections::HashMap;
use std::sync::PoisonError;

use super::{Address, Cuda, Driver};
use crate::device::DeviceError;

/// Memory that operators need within a launch, kept from launch to launch: a device does its work in order, so that one piece
/// serves all. It grows to what was needed most.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    room: Piece,
    tickets: Piece,
    /// What was written last for each purpose, and where it lies.
    lists: HashMap<&'static str, (Vec<u32>, Piece)>,
}

#[derive(Debug, Default)]
struct Piece {
    at: Option<Address>,
    bytes: usize,
}

/// What launches ask for is a little more than their neighbours asked for: pieces grow by whole steps.
const STEP: usize = 1 << 16;

impl Piece {
    /// Room for `bytes`; new memory is zeroed.
    fn of(&mut self, driver: &dyn Driver, bytes: usize) -> Result<Address, DeviceError> {
        if let Some(at) = self.at.filter(|_| self.bytes >= bytes) {
            return Ok(at);
        }
        self.free(driver);
        let bytes = bytes.max(self.bytes + self.bytes / 2).next_multiple_of(STEP);
        let Some(at) = driver.allocate(bytes)? else {
            let [free, all] = driver.memory()?;
            return Err(DeviceError::Memory { device: driver.name(), bytes, free, all });
        };
        *self = Self { at: Some(at), bytes };
        driver.zero(at, bytes)?;
        Ok(at)
    }

    /// The driver waits for the work that uses it.
    fn free(&mut self, driver: &dyn Driver) {
        if let Some(at) = self.at.take() {
            driver.free(at);
        }
    }
}

impl Scratch {
    /// Gives everything back.
    pub(super) fn free(&mut self, driver: &dyn Driver) {
        let lists = self.lists.values_mut().map(|list| &mut list.1);
        [&mut self.room, &mut self.tickets].into_iter().chain(lists).for_each(|piece| piece.free(driver));
    }
}

impl Cuda {
    fn with_scratch<R>(&self, f: impl FnOnce(&mut Scratch, &dyn Driver) -> R) -> R {
        let mut scratch = self.open.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut scratch, self.driver())
    }

    /// At least `bytes` whose contents nobody knows, for what is launched before the next call of this.
    ///
    /// # Errors
    /// When the device has not so much left, or the driver refuses.
    pub fn scratch(&self, bytes: usize) -> Result<Address, DeviceError> {
        self.with_scratch(|scratch, driver| scratch.room.of(driver, bytes))
    }

    /// `count` counters (u32) that are zero, for launches that leave them zero.
    ///
    /// # Errors
    /// As [`Cuda::scratch`].
    pub fn tickets(&self, count: usize) -> Result<Address, DeviceError> {
        self.with_scratch(|scratch, driver| scratch.tickets.of(driver, 4 * count))
    }

    /// `words` on the device, until other words come for the same purpose. The same words again are not sent again.
    ///
    /// # Errors
    /// As [`Cuda::scratch`].
    pub fn list(&self, purpose: &'static str, words: &[u32]) -> Result<Address, DeviceError> {
        self.with_scratch(|scratch, driver| {
            let (known, piece) = scratch.lists.entry(purpose).or_default();
            let at = piece.of(driver, 4 * words.len().max(1))?;
            // A piece that has just grown holds what was known no more, but then the words are more, too.
            if known != words {
                known.clear();
                driver.upload(bytemuck::cast_slice(words), at)?;
                known.extend_from_slice(words);
            }
            Ok(at)
        })
    }
}
