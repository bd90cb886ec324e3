//! Launches by name.

use std::ffi::{CStr, CString, c_void};
use std::path::Path;

use crate::counters::Counters;
use crate::error::Error;
use crate::library::{Kernel, Library, library};
use crate::trace;

/// What cuLaunchKernel takes, and in which order threads run.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The name it was exported under.
    pub kernel: &'a str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory, in bytes.
    pub shared_bytes: u32,
    /// Each argument's bytes, in the order of the kernel's parameters.
    pub arguments: &'a [&'a [u8]],
    /// 0: threads run in ascending order. Otherwise at random, the same way for the same seed.
    pub seed: u64,
}

/// The same fields as `Configuration` in `launch.h`.
#[repr(C)]
pub(crate) struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    seed: u64,
}

/// An argument's bytes, as aligned as any type a kernel takes.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Piece([u8; 64]);

/// Runs a kernel to its end.
///
/// # Errors
/// The kernel is unknown or takes other arguments, the launch is one that a GPU would refuse, or the checks found
/// something wrong: then the error says what, where and in which thread.
pub fn launch(launch: &Launch) -> Result<Counters, Error> {
    let library = library()?;
    let kernel = find(library, launch.kernel)?;
    check_arguments(library, kernel, launch)?;
    trace::note(&stem(library, kernel));
    let mut pieces: Vec<Vec<Piece>> = launch.arguments.iter().map(|argument| aligned(argument)).collect();
    let mut parameters: Vec<*mut c_void> =
        pieces.iter_mut().map(|pieces| pieces.as_mut_ptr().cast()).collect();
    let shape = Shape {
        grid: launch.grid,
        block: launch.block,
        shared_bytes: launch.shared_bytes,
        seed: launch.seed,
    };
    let mut counters = Counters::default();
    // SAFETY: the kernel is the table's, every parameter points to as many bytes as it takes, and the emulation checks
    // each address that the kernel makes of them before it is used.
    let clean =
        unsafe { (library.launch)(kernel, &raw const shape, parameters.as_mut_ptr(), &raw mut counters) };
    if clean { Ok(counters) } else { Err(Error::Reported(last_reports(library))) }
}

/// The most threads a block of this kernel may have.
///
/// # Errors
/// The kernel is unknown.
pub fn most_threads(kernel: &str) -> Result<u32, Error> {
    let library = library()?;
    let kernel = find(library, kernel)?;
    // SAFETY: the kernel is the table's.
    Ok(unsafe { (library.most_threads)(kernel) })
}

fn find(library: &Library, name: &str) -> Result<*const Kernel, Error> {
    let unknown = || Error::UnknownKernel(name.to_owned());
    let text = CString::new(name).map_err(|_| unknown())?;
    // SAFETY: the name ends with a zero.
    let kernel = unsafe { (library.find)(text.as_ptr()) };
    if kernel.is_null() { Err(unknown()) } else { Ok(kernel) }
}

/// The name of the source that holds this kernel.
fn stem(library: &Library, kernel: *const Kernel) -> String {
    // SAFETY: the kernel is the table's; the path of its shared object lives as long as the process.
    let object = unsafe { CStr::from_ptr((library.source)(kernel)) }.to_string_lossy();
    Path::new(&*object).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn check_arguments(library: &Library, kernel: *const Kernel, launch: &Launch) -> Result<(), Error> {
    let mut bytes = std::ptr::null();
    // SAFETY: the kernel is the table's, and its list of sizes lives as long as the process.
    let expected = unsafe {
        let count = (library.parameters)(kernel, &raw mut bytes);
        std::slice::from_raw_parts(bytes, count as usize)
    };
    let expected: Vec<usize> = expected.iter().map(|bytes| *bytes as usize).collect();
    let got: Vec<usize> = launch.arguments.iter().map(|argument| argument.len()).collect();
    if got == expected {
        Ok(())
    } else {
        Err(Error::Arguments { kernel: launch.kernel.to_owned(), expected, got })
    }
}

fn aligned(argument: &[u8]) -> Vec<Piece> {
    let piece = |bytes: &[u8]| {
        let mut piece = Piece([0; 64]);
        piece.0[..bytes.len()].copy_from_slice(bytes);
        piece
    };
    argument.chunks(64).map(piece).collect()
}

fn last_reports(library: &Library) -> String {
    // SAFETY: the string lives until this thread launches again.
    unsafe { CStr::from_ptr((library.last_reports)()) }.to_string_lossy().into_owned()
}
