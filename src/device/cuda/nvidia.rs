use std::collections::HashMap;
use std::ffi::CString;
use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::result::{self, DriverError as Code};
use cudarc::driver::sys::{self, CUdevice_attribute, CUfunction, CUfunction_attribute, CUresult, CUstream};

use super::cublas_lt::{self, Product};
use super::images::{Images, image};
use super::{
    Address, Driver, DriverError, EncodedMap, Grid, Kernel, LibraryProduct, Profile, Swizzle, TensorMap,
};
use crate::device::DeviceError;

/// The CUDA version that the images are of, as the driver counts: 1000 for each major, 10 for each minor version.
const NEEDED: i32 = 13000;
/// The same as a user reads it.
const NEEDED_WORDS: &str = "CUDA 13.0, which comes with driver 580 or newer";
/// The oldest compute capability that the images serve.
const OLDEST: (i32, i32) = (8, 0);

/// NVIDIA's own driver, opened at run time, with one stream.
#[derive(Debug)]
pub(super) struct Nvidia {
    name: String,
    capability: [u32; 2],
    multiprocessors: u32,
    context: sys::CUcontext,
    stream: CUstream,
    images: Images,
    loaded: Mutex<Loaded>,
}

/// What has been loaded so far: images by stem, kernels with the dynamic shared memory that they have been allowed.
#[derive(Debug, Default)]
struct Loaded {
    images: HashMap<&'static str, sys::CUmodule>,
    kernels: HashMap<Kernel, (CUfunction, u32)>,
}

// SAFETY: contexts, streams and functions are handles that the driver lets any thread use once the context is made current,
// which every call below does first.
unsafe impl Send for Nvidia {}
// SAFETY: as above; what has been loaded is behind a lock.
unsafe impl Sync for Nvidia {}

impl Nvidia {
    /// Opens the GPU of this index; kernels are also looked for in `images`.
    pub(super) fn open(index: usize, images: Images) -> Result<Self, DeviceError> {
        let refuse = |reason: String| DeviceError::NoCuda { index, reason };
        // A missing library or symbol is a panic in the crate that opens it.
        let opened = catch_unwind(|| {
            // SAFETY: asks the loader for the library and nothing else.
            if !unsafe { sys::is_culib_present() } {
                return Err("there is no NVIDIA driver (libcuda.so.1) on this machine".to_owned());
            }
            Self::probe(index, images)
        });
        let missing = || format!("the driver lacks a function; {NEEDED_WORDS} is needed");
        opened.unwrap_or_else(|_| Err(missing())).map_err(refuse)
    }

    fn probe(index: usize, images: Images) -> Result<Self, String> {
        result::init().map_err(|code| said(&code))?;
        let mut version = 0;
        // SAFETY: writes one integer.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(|code| said(&code))?;
        if version < NEEDED {
            let has = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
            return Err(format!("its driver knows {has}; {NEEDED_WORDS} is needed"));
        }
        let count = result::device::get_count().map_err(|code| said(&code))?;
        let ordinal = i32::try_from(index).ok().filter(|index| *index < count);
        let ordinal = ordinal.ok_or_else(|| format!("this machine has {count} CUDA devices"))?;
        Self::context(ordinal, images).map_err(|code| said(&code))?
    }

    fn context(ordinal: i32, images: Images) -> Result<Result<Self, String>, Code> {
        use CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
            CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as MULTIPROCESSORS,
        };
        let device = result::device::get(ordinal)?;
        let name = result::device::get_name(device)?;
        // SAFETY: `device` is a device that the driver has just given.
        let attribute = |asked| unsafe { result::device::get_attribute(device, asked) };
        let capability = (attribute(MAJOR)?, attribute(MINOR)?);
        if capability < OLDEST {
            let (major, minor) = capability;
            return Ok(Err(format!("{name} has compute capability {major}.{minor}; 8.0 or newer is needed")));
        }
        // SAFETY: as above; the context lives as long as the process.
        let context = unsafe { result::primary_ctx::retain(device)? };
        // SAFETY: the context is alive.
        unsafe { result::ctx::set_current(context)? };
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        let capability = [capability.0 as u32, capability.1 as u32];
        let multiprocessors = attribute(MULTIPROCESSORS)? as u32;
        let loaded = Mutex::default();
        Ok(Ok(Self { name, capability, multiprocessors, context, stream, images, loaded }))
    }

    /// Makes the context current, then calls; an error says what was being done.
    fn call<T>(
        &self,
        doing: impl FnOnce() -> String,
        call: impl FnOnce() -> Result<T, Code>,
    ) -> Result<T, DriverError> {
        // SAFETY: the context lives as long as the process.
        let current = unsafe { result::ctx::set_current(self.context) };
        current
            .and_then(|()| call())
            .map_err(|code| DriverError { doing: format!("{}: {}", self.name, doing()), reason: said(&code) })
    }

    /// The kernel, loaded at its first launch, allowed the shared memory that it is launched with.
    fn kernel(&self, kernel: Kernel, shared: u32) -> Result<CUfunction, DriverError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded.kernels.get(&kernel).copied();
        if let Some((function, _)) = known.filter(|(_, allowed)| *allowed >= shared) {
            return Ok(function);
        }
        let doing = || format!("loading kernel {}", kernel.name);
        let Some(image) = image(self.images, kernel.stem) else {
            let reason = format!("this build has no image `{}`", kernel.stem);
            return Err(DriverError { doing: doing(), reason });
        };
        let function = self.call(doing, || {
            let function =
                known.map_or_else(|| loaded.function(kernel, image), |(function, _)| Ok(function))?;
            let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is a handle that the driver has given.
            unsafe { result::function::set_function_attribute(function, most, shared as i32)? };
            Ok(function)
        })?;
        loaded.kernels.insert(kernel, (function, shared));
        Ok(function)
    }
}

impl Loaded {
    /// The kernel's handle, from its image, which is loaded once.
    fn function(&mut self, kernel: Kernel, image: &'static [u8]) -> Result<CUfunction, Code> {
        let module = match self.images.get(kernel.stem) {
            Some(module) => *module,
            None => {
                // SAFETY: the image is a whole fat binary, embedded when this program was built.
                let module = unsafe { result::module::load_data(image.as_ptr().cast())? };
                *self.images.entry(kernel.stem).or_insert(module)
            }
        };
        let name = CString::new(kernel.name).expect("kernel names are words");
        // SAFETY: the module is loaded and never unloaded.
        unsafe { result::module::get_function(module, name) }
    }
}

/// The driver's own name and words for what went wrong.
fn said(code: &Code) -> String {
    let words = |text: Result<&std::ffi::CStr, Code>| {
        text.map_or_else(|_| format!("{:?}", code.0), |text| text.to_string_lossy().into_owned())
    };
    format!("{} ({})", words(code.error_string()), words(code.error_name()))
}

impl Driver for Nvidia {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn capability(&self) -> [u32; 2] {
        self.capability
    }

    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    fn memory(&self) -> Result<[u64; 2], DriverError> {
        let (free, all) = self.call(|| "asking for its memory".into(), result::mem_get_info)?;
        Ok([free as u64, all as u64])
    }

    fn allocate(&self, bytes: usize) -> Result<Option<Address>, DriverError> {
        self.call(
            || format!("allocating {bytes} bytes"),
            // SAFETY: the memory is written before it is read: arenas zero what they are given.
            || match unsafe { result::malloc_sync(bytes.max(1)) } {
                Err(Code(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
                given => Ok(Some(Address(given?))),
            },
        )
    }

    fn free(&self, at: Address) {
        // A device that is lost has nothing to give back. SAFETY: the address is `allocate`'s and nobody holds it any more.
        let _ = self.call(|| "freeing memory".into(), || unsafe { result::free_sync(at.0) });
    }

    fn upload(&self, from: &[u8], to: Address) -> Result<(), DriverError> {
        self.call(
            || format!("copying {} bytes to it", from.len()),
            // SAFETY: the caller's region is as long as `from`; pageable memory is read before the call returns.
            || unsafe { result::memcpy_htod_async(to.0, from, self.stream) },
        )
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<(), DriverError> {
        let bytes = to.len();
        self.call(
            || format!("copying {bytes} bytes from it"),
            // SAFETY: the caller's region is as long as `to`, which outlives the wait.
            || unsafe {
                result::memcpy_dtoh_async(to, from.0, self.stream)?;
                result::stream::synchronize(self.stream)
            },
        )
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        self.call(
            || format!("copying {bytes} bytes on it"),
            // SAFETY: the callers' regions are that long.
            || unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.stream) },
        )
    }

    fn zero(&self, at: Address, bytes: usize) -> Result<(), DriverError> {
        self.call(
            || format!("clearing {bytes} bytes"),
            // SAFETY: the caller's region is that long.
            || unsafe { result::memset_d8_async(at.0, 0, bytes, self.stream) },
        )
    }

    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[&[u8]]) -> Result<(), DriverError> {
        let function = self.kernel(kernel, grid.shared)?;
        let mut parameters: Vec<_> = arguments.iter().map(|bytes| bytes.as_ptr().cast_mut().cast()).collect();
        let [x, y, z] = grid.blocks;
        self.call(
            || format!("launching {}", kernel.name),
            // SAFETY: operators check every argument against the kernel's contract, and launch nothing else; the driver copies
            // the parameters before it returns.
            || unsafe {
                let block = (grid.threads, 1, 1);
                result::launch_kernel(function, (x, y, z), block, grid.shared, self.stream, &mut parameters)
            },
        )
    }

    fn tensor_map(&self, map: &TensorMap<'_>) -> Result<EncodedMap, DriverError> {
        self.call(|| format!("describing {map:?}"), || encoded(map))
    }

    fn seconds(&self, work: &mut dyn FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
        let timing = || "timing".to_owned();
        let [start, end] = [self.call(timing, Event::new)?, self.call(timing, Event::new)?];
        self.call(timing, || start.record(self.stream))?;
        work()?;
        self.call(timing, || end.record(self.stream))?;
        Ok(self.call(timing, || start.seconds_to(&end))?)
    }

    fn library_product(
        &self,
        sides: [usize; 3],
        operands: [Address; 3],
    ) -> Result<Option<LibraryProduct<'_>>, DriverError> {
        if !cublas_lt::is_present() {
            return Ok(None);
        }
        let refused = |reason| DriverError { doing: format!("{}: cuBLASLt's product", self.name), reason };
        let made =
            self.call(|| "preparing a product".into(), || Ok(Product::new(sides, operands, self.stream)));
        let product = made?.map_err(refused)?;
        Ok(Some(Box::new(move || product.run().map_err(refused))))
    }

    fn profile(&self, border: Profile) -> Result<(), DriverError> {
        let name: &[u8] = if border == Profile::Start { b"cuProfilerStart" } else { b"cuProfilerStop" };
        self.call(
            || format!("{border:?} of profiling"),
            // SAFETY: the library is open since `Self::open`; both functions take nothing and return a code.
            || unsafe {
                let function = sys::culib().get::<unsafe extern "C" fn() -> CUresult>(name);
                function.map_err(|_| Code(CUresult::CUDA_ERROR_NOT_SUPPORTED))?().result()
            },
        )
    }

    fn sync(&self) -> Result<(), DriverError> {
        // SAFETY: the stream lives as long as this.
        self.call(|| "waiting for it".into(), || unsafe { result::stream::synchronize(self.stream) })
    }
}

/// A point in a stream's work, given back when it is dropped.
struct Event(sys::CUevent);

impl Event {
    fn new() -> Result<Self, Code> {
        result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map(Self)
    }

    fn record(&self, stream: CUstream) -> Result<(), Code> {
        // SAFETY: the event is alive while `self` is, the stream as long as the process.
        unsafe { result::event::record(self.0, stream) }
    }

    /// Waits until `end` has come, which was recorded after this.
    fn seconds_to(&self, end: &Self) -> Result<f64, Code> {
        // SAFETY: both events are alive and recorded in one stream.
        let milliseconds = unsafe {
            result::event::synchronize(end.0)?;
            result::event::elapsed(self.0, end.0)?
        };
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // A device that is lost has nothing to give back. SAFETY: nobody else holds the event.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

fn encoded(map: &TensorMap<'_>) -> Result<EncodedMap, Code> {
    use sys::CUtensorMapSwizzle as To;
    if !map.has_a_rank() {
        return Err(Code(CUresult::CUDA_ERROR_INVALID_VALUE));
    }
    let swizzle = match map.swizzle {
        Swizzle::None => To::CU_TENSOR_MAP_SWIZZLE_NONE,
        Swizzle::Bytes32 => To::CU_TENSOR_MAP_SWIZZLE_32B,
        Swizzle::Bytes64 => To::CU_TENSOR_MAP_SWIZZLE_64B,
        Swizzle::Bytes128 => To::CU_TENSOR_MAP_SWIZZLE_128B,
    };
    let mut encoded = sys::CUtensorMap { opaque: [0; 16] };
    // SAFETY: the lists are as long as the rank asks for, checked above; neighbours along a box are neighbours in memory.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut encoded,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            map.extent.len() as u32,
            map.at.0 as *mut _,
            map.extent.as_ptr(),
            map.stride.as_ptr(),
            map.shape.as_ptr(),
            [1; 5].as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        .result()?;
    }
    Ok(EncodedMap(encoded.opaque))
}
