//! Where memory lies and code runs: the host's threads today, NVIDIA GPUs behind the same handles. The only home of `unsafe`.

#![allow(unsafe_code)]

mod blocks;
pub mod busy;
mod cuda;
mod exp;
mod float;
mod host;
mod mapped;
mod memory;
mod product;
mod ranges;
mod stream;

pub use blocks::{BlockMut, grid_mut};
pub use cuda::{
    Address, Cuda, Driver, DriverError, EncodedMap, Grid, Images, Kernel, LibraryProduct, Profile, Swizzle,
    TensorMap,
};
pub use float::{Float, Scalar};
pub use host::Host;
pub use mapped::MappedFile;
pub use memory::{Memory, MemoryMut, Region};
pub use product::{LEAF, Matrix, MatrixMut, Start, Write, product, product_near, product_serial};
pub use ranges::{Range, RangeError, range, tell_profiler};
pub use stream::Stream;

/// A place to compute. Closed: operators match on it once.
#[derive(Clone, Debug)]
pub enum Device {
    /// The CPU and its memory.
    Host(Host),
    /// An NVIDIA GPU.
    Cuda(Cuda),
}

/// What the user asked for with `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best device present.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA device of this index.
    Cuda(usize),
}

/// What can go wrong with a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// CUDA was asked for, and there was no nvcc when this program was built.
    #[error(
        "--device cuda:{0}: this build has no CUDA kernels, because it found no nvcc; run kernels/install_nvcc and build \
         again, or use --device cpu"
    )]
    CudaNotBuilt(usize),
    /// There is no such GPU, or it or its driver is too old.
    #[error("--device cuda:{index}: {reason}; --device cpu works without a GPU")]
    NoCuda {
        /// The device that was asked for.
        index: usize,
        /// What is missing.
        reason: String,
    },
    /// The GPU does not have so much memory left.
    #[error("{device}: {bytes} bytes are needed, {free} of {all} are free")]
    Memory {
        /// The device's name.
        device: String,
        /// Asked for.
        bytes: usize,
        /// Free.
        free: u64,
        /// In all.
        all: u64,
    },
    /// The GPU's driver refused, or work that it was given failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// Work failed some time after it was launched.
    #[error("{source}; launched last, oldest first: {}", launched.join(", "))]
    Late {
        /// Operators, oldest first.
        launched: Vec<&'static str>,
        /// What the driver says.
        source: DriverError,
    },
    /// The CPU is older than the supported platform.
    #[error("this CPU lacks AVX2 or FMA; patarm supports Linux on x86-64-v3 (2013 and later)")]
    CpuTooOld,
    /// Threads could not be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why not.
        source: rayon::ThreadPoolBuildError,
    },
}

impl Device {
    /// Opens what was asked for; `threads` host threads (0: one per core).
    ///
    /// # Errors
    /// When the device is absent or not supported by this build.
    pub fn open(choice: DeviceChoice, threads: usize) -> Result<Self, DeviceError> {
        match choice {
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Self::Host(Host::open(threads)?)),
            DeviceChoice::Cuda(index) => Ok(Self::Cuda(Cuda::open(index)?)),
        }
    }

    /// Runs `f` on the device's own threads, so that parallel work inside needs no hand-over.
    pub fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match self {
            Self::Host(host) => host.enter(f),
            Self::Cuda(_) => f(),
        }
    }
}
