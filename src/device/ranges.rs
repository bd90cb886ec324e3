use std::array;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::fmt::Display;
use std::marker::PhantomData;
use std::mem::transmute;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libloading::{Library, Symbol};

/// A stretch of this thread's work under a name, for a profiler: it ends when this is dropped. Nothing where none listens.
#[must_use = "a range ends where it is dropped"]
#[derive(Debug)]
pub struct Range {
    begun: Option<&'static Listener>,
    of_this_thread: PhantomData<*const ()>,
}

/// Begins a range. Ranges nest. The name is written only where somebody listens.
pub fn range(name: impl Display) -> Range {
    let begun = LISTENER.get();
    if let Some(listener) = begun {
        listener.push(&name.to_string());
    }
    Range { begun, of_this_thread: PhantomData }
}

impl Drop for Range {
    fn drop(&mut self) {
        if let Some(listener) = self.begun {
            listener.pop();
        }
    }
}

/// Why a profiler does not hear of ranges.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// Its library cannot be opened, or is none of a profiler.
    #[error("{path}: {reason}")]
    Library {
        /// As it was named.
        path: String,
        /// What the loader says.
        reason: String,
    },
    /// It takes no ranges.
    #[error("{path}: the profiler does not listen to ranges")]
    Deaf {
        /// As it was named.
        path: String,
    },
}

/// Lets a profiler hear of ranges from here on. Tools that understand NVTX (Nsight Systems, Nsight Compute) name their library in
/// the environment of what they start, and this speaks to it as NVTX's own headers do.
///
/// # Errors
/// When the library is none of a profiler.
pub fn tell_profiler(library: &Path) -> Result<(), RangeError> {
    let path = library.display().to_string();
    let failed =
        |error: libloading::Error| RangeError::Library { path: path.clone(), reason: error.to_string() };
    // SAFETY: the user's profiler names this library to be loaded into the programs that it starts.
    let library = unsafe { Library::new(library) }.map_err(failed)?;
    let accepted = {
        // SAFETY: NVTX fixes this name and type for every tool that listens.
        let initialize: Symbol<'_, Initialize> =
            unsafe { library.get(b"InitializeInjectionNvtx2") }.map_err(failed)?;
        // SAFETY: `export_table` answers as NVTX asks; what the tool writes goes into slots that live as long as the program.
        unsafe { initialize(export_table) }
    };
    // Its functions are called until the program ends.
    std::mem::forget(library);
    let [push, pop] = [PUSH, POP].map(|callback| SLOTS[CORE][callback].load(Ordering::Acquire));
    if accepted == 0 || push.is_null() || pop.is_null() {
        return Err(RangeError::Deaf { path });
    }
    // SAFETY: NVTX fixes the types of the functions that a tool writes into these slots.
    let listener = unsafe {
        Listener { push: transmute::<*mut c_void, Push>(push), pop: transmute::<*mut c_void, Pop>(pop) }
    };
    // A second call finds the same tool.
    LISTENER.get_or_init(|| listener);
    Ok(())
}

static LISTENER: OnceLock<Listener> = OnceLock::new();

type Push = unsafe extern "C" fn(*const c_char) -> c_int;
type Pop = unsafe extern "C" fn() -> c_int;
type GetExportTable = unsafe extern "C" fn(u32) -> *const c_void;
type Initialize = unsafe extern "C" fn(GetExportTable) -> c_int;

/// The profiler's functions.
#[derive(Debug)]
struct Listener {
    push: Push,
    pop: Pop,
}

impl Listener {
    fn push(&self, name: &str) {
        let name = CString::new(name.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the tool's own function, given a string that ends with 0, of which it takes a copy.
        unsafe { (self.push)(name.as_ptr()) };
    }

    fn pop(&self) {
        // SAFETY: the tool's own function.
        unsafe { (self.pop)() };
    }
}

// NVTX's numbers: export tables, callback modules, and callbacks of the core module.
const CALLBACKS: u32 = 1;
const VERSION: u32 = 3;
const CORE: usize = 1;
const PUSH: usize = 9;
const POP: usize = 11;

/// Callbacks of each module, the first of which is none. A tool asks for all modules, though only the core's are called.
const SIZES: [usize; 7] = [0, 16, 16, 9, 15, 7, 7];
const MOST: usize = 16;

/// Where a tool writes its functions.
static SLOTS: [[AtomicPtr<c_void>; MOST]; SIZES.len()] =
    [const { [const { AtomicPtr::new(ptr::null_mut()) }; MOST] }; SIZES.len()];

/// The slots' addresses: none for the first callback, and for what ends the list.
static PLACES: OnceLock<[[usize; MOST + 1]; SIZES.len()]> = OnceLock::new();

fn places() -> &'static [[usize; MOST + 1]; SIZES.len()] {
    PLACES.get_or_init(|| {
        array::from_fn(|module| {
            let place =
                |callback| ptr::from_ref::<AtomicPtr<c_void>>(&SLOTS[module][callback]).expose_provenance();
            array::from_fn(
                |callback| if (1..SIZES[module]).contains(&callback) { place(callback) } else { 0 },
            )
        })
    })
}

/// NvtxExportTableCallbacks.
#[repr(C)]
struct Callbacks {
    bytes: usize,
    table_of: unsafe extern "C" fn(c_uint, *mut *const usize, *mut c_uint) -> c_int,
}

/// NvtxExportTableVersionInfo.
#[repr(C)]
struct Version {
    bytes: usize,
    version: u32,
    reserved: u32,
    tool_is_of: unsafe extern "C" fn(u32),
}

static CALLBACK_TABLE: Callbacks = Callbacks { bytes: size_of::<Callbacks>(), table_of };
static VERSION_TABLE: Version = Version { bytes: size_of::<Version>(), version: 3, reserved: 0, tool_is_of };

unsafe extern "C" fn export_table(id: u32) -> *const c_void {
    match id {
        CALLBACKS => ptr::from_ref(&CALLBACK_TABLE).cast(),
        VERSION => ptr::from_ref(&VERSION_TABLE).cast(),
        _ => ptr::null(),
    }
}

unsafe extern "C" fn table_of(module: c_uint, table: *mut *const usize, size: *mut c_uint) -> c_int {
    let Some(&count) = SIZES.get(module as usize).filter(|&&count| count > 0) else { return 0 };
    // SAFETY: NVTX lets a tool pass null where it does not want the answer, and room for it elsewhere.
    unsafe {
        if let Some(size) = size.as_mut() {
            *size = count as c_uint;
        }
        if let Some(table) = table.as_mut() {
            *table = places()[module as usize].as_ptr();
        }
    }
    1
}

unsafe extern "C" fn tool_is_of(_: u32) {}
