//! NVIDIA GPUs: the handle that memory and operators hold, over a [`Driver`].

mod cublas_lt;
mod driver;
mod images;
mod nvidia;
mod scratch;
mod tensor_map;

use std::sync::{Arc, Mutex, PoisonError};

use super::DeviceError;

pub use driver::{Address, Driver, DriverError, Grid, Kernel, LibraryProduct, Profile};
pub use images::Images;
use images::built;
use scratch::Scratch;
pub use tensor_map::{EncodedMap, Swizzle, TensorMap};

/// An open CUDA device. Clones are the same device.
#[derive(Clone, Debug)]
pub struct Cuda {
    open: Arc<Open>,
    capability: [u32; 2],
}

#[derive(Debug)]
struct Open {
    driver: Box<dyn Driver>,
    scratch: Mutex<Scratch>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let scratch = self.scratch.get_mut().unwrap_or_else(PoisonError::into_inner);
        scratch.free(&*self.driver);
    }
}

impl Cuda {
    /// Opens the GPU of this index.
    ///
    /// # Errors
    /// When this build has no kernels, or there is no such GPU, or it or its driver is too old.
    pub fn open(index: usize) -> Result<Self, DeviceError> {
        Self::open_with(index, &[])
    }

    /// The same, with kernels that are not the program's: `images` are fat binaries by their stems.
    ///
    /// # Errors
    /// As for [`Cuda::open`].
    pub fn open_with(index: usize, images: Images) -> Result<Self, DeviceError> {
        if !built() {
            return Err(DeviceError::CudaNotBuilt(index));
        }
        Ok(Self::over(nvidia::Nvidia::open(index, images)?))
    }

    /// A device over a driver of one's own.
    pub fn over(driver: impl Driver + 'static) -> Self {
        let capability = driver.capability();
        let open = Arc::new(Open { driver: Box::new(driver), scratch: Mutex::default() });
        Self { open, capability }
    }

    /// Compute capability, major and minor: which of the kernels' variants operators launch.
    pub fn capability(&self) -> [u32; 2] {
        self.capability
    }

    /// The same device as one of an older capability: variants for newer ones are not launched.
    #[must_use]
    pub fn limited_to(&self, capability: [u32; 2]) -> Self {
        Self { open: Arc::clone(&self.open), capability: capability.min(self.capability) }
    }

    /// The driver below.
    pub fn driver(&self) -> &dyn Driver {
        &*self.open.driver
    }

    /// Runs `kernel` on `grid`; an argument is its bytes.
    ///
    /// # Errors
    /// What the driver says.
    pub fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[&[u8]]) -> Result<(), DeviceError> {
        Ok(self.driver().launch(kernel, grid, arguments)?)
    }
}
