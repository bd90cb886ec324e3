//! Global memory. Addresses are those that kernels see; every range is checked against what is allocated.

use crate::error::Error;
use crate::library::library;

/// Memory of so many bytes, 16-byte aligned, which counts as uninitialised until it is written. Guard pages stand before it
/// and behind its last byte.
///
/// # Errors
/// No memory is left, or the kernels cannot be loaded.
pub fn allocate(bytes: usize) -> Result<u64, Error> {
    // SAFETY: takes a number, returns a number.
    match unsafe { (library()?.allocate)(bytes) } {
        0 => Err(Error::Exhausted(bytes)),
        address => Ok(address),
    }
}

/// Gives an allocation back. Launches that began before keep it alive.
///
/// # Errors
/// `address` is not that of an allocation.
pub fn free(address: u64) -> Result<(), Error> {
    // SAFETY: takes a number that need not be an address.
    check(unsafe { (library()?.free)(address) }, address, 0)
}

/// Copies from the host.
///
/// # Errors
/// The bytes do not lie within one allocation.
pub fn upload(to: u64, from: &[u8]) -> Result<(), Error> {
    // SAFETY: `from` is readable for its length; the range behind `to` is checked.
    check(unsafe { (library()?.upload)(to, from.as_ptr(), from.len()) }, to, from.len())
}

/// Copies to the host. Bytes that nothing has written are 0xff, and [`first_unwritten`] tells them.
///
/// # Errors
/// The bytes do not lie within one allocation.
pub fn download(to: &mut [u8], from: u64) -> Result<(), Error> {
    // SAFETY: `to` is writable for its length; the range behind `from` is checked.
    check(unsafe { (library()?.download)(to.as_mut_ptr(), from, to.len()) }, from, to.len())
}

/// Writes the same byte everywhere.
///
/// # Errors
/// The bytes do not lie within one allocation.
pub fn fill(to: u64, byte: u8, bytes: usize) -> Result<(), Error> {
    // SAFETY: takes numbers; the range is checked.
    check(unsafe { (library()?.fill)(to, byte, bytes) }, to, bytes)
}

/// Copies between two ranges, which may overlap. What was uninitialised stays so.
///
/// # Errors
/// The bytes do not lie within one allocation each.
pub fn copy(to: u64, from: u64, bytes: usize) -> Result<(), Error> {
    // SAFETY: takes numbers; both ranges are checked.
    check(unsafe { (library()?.copy)(to, from, bytes) }, to, bytes)
}

/// The first of these bytes that nothing has written since it was allocated, counted from `address`.
///
/// # Errors
/// The bytes do not lie within one allocation.
pub fn first_unwritten(address: u64, bytes: usize) -> Result<Option<usize>, Error> {
    let mut first = bytes;
    // SAFETY: `first` is writable; the range is checked.
    check(unsafe { (library()?.first_unwritten)(address, bytes, &raw mut first) }, address, bytes)?;
    Ok((first < bytes).then_some(first))
}

fn check(done: bool, address: u64, bytes: usize) -> Result<(), Error> {
    if done { Ok(()) } else { Err(Error::Outside { address, bytes }) }
}
