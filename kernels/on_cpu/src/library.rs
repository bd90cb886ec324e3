//! The shared objects: loaded once, on first use.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, mem};

use crate::compile::files;
use crate::counters::Counters;
use crate::error::Error;
use crate::launch::Shape;

/// A kernel of the emulation's table; lives as long as the process.
#[repr(C)]
pub(crate) struct Kernel {
    opaque: [u8; 0],
}

/// The functions of `host.h`.
pub(crate) struct Library {
    pub(crate) allocate: unsafe extern "C" fn(usize) -> u64,
    pub(crate) free: unsafe extern "C" fn(u64) -> bool,
    pub(crate) upload: unsafe extern "C" fn(u64, *const u8, usize) -> bool,
    pub(crate) download: unsafe extern "C" fn(*mut u8, u64, usize) -> bool,
    pub(crate) fill: unsafe extern "C" fn(u64, u8, usize) -> bool,
    pub(crate) copy: unsafe extern "C" fn(u64, u64, usize) -> bool,
    pub(crate) first_unwritten: unsafe extern "C" fn(u64, usize, *mut usize) -> bool,
    pub(crate) find: unsafe extern "C" fn(*const c_char) -> *const Kernel,
    pub(crate) source: unsafe extern "C" fn(*const Kernel) -> *const c_char,
    pub(crate) parameters: unsafe extern "C" fn(*const Kernel, *mut *const u32) -> u32,
    pub(crate) most_threads: unsafe extern "C" fn(*const Kernel) -> u32,
    pub(crate) launch:
        unsafe extern "C" fn(*const Kernel, *const Shape, *mut *mut c_void, *mut Counters) -> bool,
    pub(crate) last_reports: unsafe extern "C" fn() -> *const c_char,
    #[expect(clippy::type_complexity, reason = "the shape of cuTensorMapEncodeTiled")]
    pub(crate) tensor_map:
        unsafe extern "C" fn(*mut u8, u64, u32, *const u64, *const u64, *const u32, u32, u32) -> bool,
}

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

const RTLD_NOW: c_int = 2;
const RTLD_GLOBAL: c_int = 0x100;

/// The emulation with all kernels in its table.
pub(crate) fn library() -> Result<&'static Library, Error> {
    static LOADED: OnceLock<Result<Library, Error>> = OnceLock::new();
    LOADED.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Library, Error> {
    let built = Path::new(env!("ON_CPU_OBJECTS"));
    let emulation = open(&built.join("emulation.so"), RTLD_NOW | RTLD_GLOBAL)?;
    for kernels in objects(built)? {
        open(&kernels, RTLD_NOW)?;
    }
    // SAFETY: each name of host.h is read as the type that host.h gives it.
    unsafe {
        Ok(Library {
            allocate: mem::transmute(symbol(emulation, c"on_cpu_allocate")?),
            free: mem::transmute(symbol(emulation, c"on_cpu_free")?),
            upload: mem::transmute(symbol(emulation, c"on_cpu_upload")?),
            download: mem::transmute(symbol(emulation, c"on_cpu_download")?),
            fill: mem::transmute(symbol(emulation, c"on_cpu_fill")?),
            copy: mem::transmute(symbol(emulation, c"on_cpu_copy")?),
            first_unwritten: mem::transmute(symbol(emulation, c"on_cpu_first_unwritten")?),
            find: mem::transmute(symbol(emulation, c"on_cpu_find")?),
            source: mem::transmute(symbol(emulation, c"on_cpu_source")?),
            parameters: mem::transmute(symbol(emulation, c"on_cpu_parameters")?),
            most_threads: mem::transmute(symbol(emulation, c"on_cpu_most_threads")?),
            launch: mem::transmute(symbol(emulation, c"on_cpu_launch")?),
            last_reports: mem::transmute(symbol(emulation, c"on_cpu_last_reports")?),
            tensor_map: mem::transmute(symbol(emulation, c"on_cpu_tensor_map")?),
        })
    }
}

/// One shared object per stem: the built one, or what stands in its place.
fn objects(built: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut objects = files(&built.join("kernels"), &["so"]).map_err(|e| Error::Library(e.to_string()))?;
    for other in env::var_os("ON_CPU_REPLACE").iter().flat_map(env::split_paths) {
        let Some(replaced) = objects.iter_mut().find(|object| object.file_name() == other.file_name()) else {
            return Err(Error::Library(format!(
                "ON_CPU_REPLACE={}: no kernel has this stem",
                other.display()
            )));
        };
        *replaced = other;
    }
    Ok(objects)
}

fn open(path: &Path, flags: c_int) -> Result<*mut c_void, Error> {
    let name = CString::new(OsStr::as_bytes(path.as_os_str())).map_err(|e| Error::Library(e.to_string()))?;
    // SAFETY: the name ends with a zero; the objects' constructors only enter kernels into a table.
    let handle = unsafe { dlopen(name.as_ptr(), flags) };
    if handle.is_null() { Err(last_error()) } else { Ok(handle) }
}

fn symbol(library: *mut c_void, name: &CStr) -> Result<*mut c_void, Error> {
    // SAFETY: the handle is one that dlopen returned, and is never closed.
    let found = unsafe { dlsym(library, name.as_ptr()) };
    if found.is_null() { Err(last_error()) } else { Ok(found) }
}

fn last_error() -> Error {
    // SAFETY: dlerror returns null or a string that lives until this thread's next call of the loader.
    let text = unsafe { dlerror().as_ref().map(|text| CStr::from_ptr(text).to_string_lossy().into_owned()) };
    Error::Library(text.unwrap_or_else(|| "the loader does not say why".into()))
}
