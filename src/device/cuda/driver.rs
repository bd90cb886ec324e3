use std::fmt::Debug;

use bytemuck::{Pod, Zeroable};

use super::{EncodedMap, TensorMap};
use crate::device::DeviceError;

/// Where bytes lie on a device, 0 nowhere. Only the device follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// `bytes` further on.
    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// A kernel: its operator's stem, which names the image, and its own name in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// `kernels/<stem>.cu`.
    pub stem: &'static str,
    /// `op_direction_dtype[_variant]`.
    pub name: &'static str,
}

/// How many threads run a kernel, and with how much memory of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z, at least one each.
    pub blocks: [u32; 3],
    /// Threads of a block: what the kernel was compiled for.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
}

impl Grid {
    /// A row of `blocks` blocks of `threads` threads, without dynamic shared memory.
    pub fn row(blocks: usize, threads: u32) -> Self {
        let blocks = u32::try_from(blocks).expect("fewer blocks than a grid holds: sizes are checked before");
        Self { blocks: [blocks, 1, 1], threads, shared: 0 }
    }
}

/// The borders of what a profiler collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// From here.
    Start,
    /// To here.
    Stop,
}

/// What a driver could not do. The words are its own.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {reason}")]
pub struct DriverError {
    /// What was asked of it.
    pub doing: String,
    /// What it says.
    pub reason: String,
}

/// One call of the vendor's own product, prepared.
pub type LibraryProduct<'a> = Box<dyn Fn() -> Result<(), DriverError> + 'a>;

/// What stands under a CUDA device: NVIDIA's driver, or whatever else runs the same kernels.
///
/// Work is done in the order in which it is asked for. A launch may return before its work is done; what went wrong then
/// comes out of a later call, at the latest of [`Driver::sync`]. Downloads wait for all work before them.
pub trait Driver: Debug + Send + Sync {
    /// The device in words, for records and errors.
    fn name(&self) -> String;

    /// Compute capability, major and minor: which of a kernel's variants it runs. Those for 8.0 run everywhere.
    fn capability(&self) -> [u32; 2] {
        [8, 0]
    }

    /// Streaming multiprocessors: as many blocks run at once at least. No result depends on it.
    fn multiprocessors(&self) -> u32;

    /// Bytes that are free now, and bytes in all.
    ///
    /// # Errors
    /// What the driver says.
    fn memory(&self) -> Result<[u64; 2], DriverError>;

    /// Bytes whose contents are unknown, aligned to 16 at least. `None` where so many are not free.
    ///
    /// # Errors
    /// What else the driver says.
    fn allocate(&self, bytes: usize) -> Result<Option<Address>, DriverError>;

    /// Gives back what [`Driver::allocate`] gave, once all work asked for so far is done.
    fn free(&self, at: Address);

    /// Copies `from` to the device.
    ///
    /// # Errors
    /// What the driver says.
    fn upload(&self, from: &[u8], to: Address) -> Result<(), DriverError>;

    /// Copies from the device to `to`.
    ///
    /// # Errors
    /// What the driver says, of this or of work before it.
    fn download(&self, from: Address, to: &mut [u8]) -> Result<(), DriverError>;

    /// Copies on the device; the two do not overlap.
    ///
    /// # Errors
    /// What the driver says.
    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError>;

    /// Sets bytes to 0.
    ///
    /// # Errors
    /// What the driver says.
    fn zero(&self, at: Address, bytes: usize) -> Result<(), DriverError>;

    /// Runs `kernel` on `grid`. An argument is its bytes, as the kernel's parameter lies in memory.
    ///
    /// # Errors
    /// An unknown kernel, arguments or a grid that do not fit, or what work before it left.
    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[&[u8]]) -> Result<(), DriverError>;

    /// Describes a tensor for bulk copies (compute capability 9.0).
    ///
    /// # Errors
    /// The driver does not take it.
    fn tensor_map(&self, map: &TensorMap<'_>) -> Result<EncodedMap, DriverError>;

    /// Waits for all work asked for so far.
    ///
    /// # Errors
    /// What went wrong in it.
    fn sync(&self) -> Result<(), DriverError>;

    /// Seconds of the device from when it begins what `work` asks for until it has done it.
    ///
    /// # Errors
    /// What `work` says, or went wrong in it.
    fn seconds(&self, work: &mut dyn FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError>;

    /// The vendor's own product y = x wᵀ of bf16 matrices without gaps, x \[n, k\], w \[m, k\], y \[n, m\], for comparison alone.
    /// `None` where its library is absent.
    ///
    /// # Errors
    /// What the library says.
    fn library_product(
        &self,
        _sides: [usize; 3],
        _operands: [Address; 3],
    ) -> Result<Option<LibraryProduct<'_>>, DriverError> {
        Ok(None)
    }

    /// Tells a profiler that collects only part of a run (`ncu --profile-from-start off`,
    /// `nsys profile --capture-range cudaProfilerApi`) where that part begins or ends.
    ///
    /// # Errors
    /// What the driver says.
    fn profile(&self, _: Profile) -> Result<(), DriverError> {
        Ok(())
    }
}
