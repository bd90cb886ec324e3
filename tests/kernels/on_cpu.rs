//! A CUDA device whose kernels run on the CPU, every access checked: the driver under the launches of these tests. Where
//! `PATARM_TEST_DEVICE` holds the index of a real one, the same tests run on that, with the same tolerances.

use std::cell::Cell;
use std::time::Instant;

use patarm::device::{
    Address, Cuda, Device, DeviceError, Driver, DriverError, EncodedMap, Grid, Images, Kernel, Stream,
    Swizzle, TensorMap,
};

/// The orders in which threads are run: ascending, and two at random.
pub(crate) const SCHEDULES: [u64; 3] = [0, 1, 2];

/// A stream on such a device; `schedule` is the order in which its threads run.
pub(crate) fn stream(schedule: u64) -> Stream {
    stream_of(schedule, [8, 0])
}

/// The same on a device of this compute capability; a real one of a lower capability stays what it is.
pub(crate) fn stream_of(schedule: u64, capability: [u32; 2]) -> Stream {
    Stream::new(Device::Cuda(cuda(schedule, capability, &[])))
}

/// Such a device; on a real one, kernels that are not the program's are those of `images`.
pub(crate) fn cuda(schedule: u64, capability: [u32; 2], images: Images) -> Cuda {
    let Ok(index) = std::env::var("PATARM_TEST_DEVICE") else {
        return Cuda::over(OnCpu { schedule, capability });
    };
    let index = index.parse().expect("PATARM_TEST_DEVICE holds an index");
    Cuda::open_with(index, images).expect("PATARM_TEST_DEVICE names a GPU").limited_to(capability)
}

thread_local! {
    static DOWNLOADS: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread has waited for such a device and read from it.
#[allow(dead_code, reason = "of the binaries that share this file one asks")]
pub(crate) fn downloads() -> usize {
    DOWNLOADS.get()
}

/// Beside what the harness checks, a kernel's ldmatrix has no bank conflict.
#[derive(Debug)]
struct OnCpu {
    schedule: u64,
    capability: [u32; 2],
}

fn said(doing: &str) -> impl FnOnce(on_cpu::Error) -> DriverError {
    let doing = doing.to_owned();
    |error| DriverError { doing, reason: error.to_string() }
}

impl Driver for OnCpu {
    fn name(&self) -> String {
        "CUDA kernels on the CPU".into()
    }

    fn capability(&self) -> [u32; 2] {
        self.capability
    }

    /// So few that blocks which take their tiles one after the other have more than one.
    fn multiprocessors(&self) -> u32 {
        3
    }

    fn memory(&self) -> Result<[u64; 2], DriverError> {
        Ok([u64::MAX; 2])
    }

    fn allocate(&self, bytes: usize) -> Result<Option<Address>, DriverError> {
        match on_cpu::allocate(bytes.max(1)) {
            Err(on_cpu::Error::Exhausted(_)) => Ok(None),
            given => given.map(|at| Some(Address(at))).map_err(said("allocating")),
        }
    }

    fn free(&self, at: Address) {
        on_cpu::free(at.0).expect("what was allocated is given back once");
    }

    fn upload(&self, from: &[u8], to: Address) -> Result<(), DriverError> {
        on_cpu::upload(to.0, from).map_err(said("uploading"))
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<(), DriverError> {
        DOWNLOADS.set(DOWNLOADS.get() + 1);
        on_cpu::download(to, from.0).map_err(said("downloading"))
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        on_cpu::copy(to.0, from.0, bytes).map_err(said("copying"))
    }

    fn zero(&self, at: Address, bytes: usize) -> Result<(), DriverError> {
        on_cpu::fill(at.0, 0, bytes).map_err(said("clearing"))
    }

    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[&[u8]]) -> Result<(), DriverError> {
        let launch = on_cpu::Launch {
            kernel: kernel.name,
            grid: grid.blocks,
            block: [grid.threads, 1, 1],
            shared_bytes: grid.shared,
            arguments,
            seed: self.schedule,
        };
        let counters = on_cpu::launch(&launch).map_err(said(kernel.name))?;
        match counters.ldmatrix_extra_passes {
            0 => Ok(()),
            // The harness' own kernels are no operators': one of them has conflicts so that these are seen to be counted.
            _ if kernel.stem == "right" => Ok(()),
            passes => {
                let reason = format!("ldmatrix read the banks {passes} times beyond once for each matrix");
                Err(DriverError { doing: kernel.name.into(), reason })
            }
        }
    }

    fn tensor_map(&self, map: &TensorMap<'_>) -> Result<EncodedMap, DriverError> {
        let swizzle = match map.swizzle {
            Swizzle::None => on_cpu::Swizzle::None,
            Swizzle::Bytes32 => on_cpu::Swizzle::Bytes32,
            Swizzle::Bytes64 => on_cpu::Swizzle::Bytes64,
            Swizzle::Bytes128 => on_cpu::Swizzle::Bytes128,
        };
        let &TensorMap { at, extent, stride, shape, .. } = map;
        let map = on_cpu::TensorMap { base: at.0, element_bytes: 2, extent, stride, shape, swizzle };
        let bytes = on_cpu::tensor_map(&map).map_err(said("describing a tensor"))?;
        Ok(EncodedMap(bytemuck::cast(bytes)))
    }

    fn seconds(&self, work: &mut dyn FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn sync(&self) -> Result<(), DriverError> {
        Ok(())
    }
}
