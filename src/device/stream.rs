use std::cell::RefCell;
use std::collections::VecDeque;

use super::{Device, DeviceError};

const REMEMBERED: usize = 8;

/// An ordered queue of operators on one device. The host runs each at once; on a GPU a launch returns before its work is
/// done, and what went wrong surfaces at [`Stream::sync`], which names the operators launched last.
#[derive(Debug)]
pub struct Stream {
    device: Device,
    launched: RefCell<VecDeque<&'static str>>,
}

impl Stream {
    /// A new queue on `device`.
    pub fn new(device: Device) -> Self {
        Self { device, launched: RefCell::new(VecDeque::with_capacity(REMEMBERED)) }
    }

    /// Where this stream runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every operator calls this once, before it launches.
    pub fn launch(&self, op: &'static str) -> &Device {
        let mut launched = self.launched.borrow_mut();
        if launched.len() == REMEMBERED {
            launched.pop_front();
        }
        launched.push_back(op);
        &self.device
    }

    /// The operators launched last, oldest first.
    pub fn last_launched(&self) -> Vec<&'static str> {
        self.launched.borrow().iter().copied().collect()
    }

    /// Waits until everything launched so far is done.
    ///
    /// # Errors
    /// What went wrong since the last call.
    pub fn sync(&self) -> Result<(), DeviceError> {
        match &self.device {
            Device::Host(_) => Ok(()),
            Device::Cuda(cuda) => cuda.driver().sync().map_err(|source| {
                let launched = self.last_launched();
                DeviceError::Late { launched, source }
            }),
        }
    }
}
