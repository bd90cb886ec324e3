//! Tensor maps, by which a kernel asks for boxes of a tensor in global memory.

use crate::error::Error;
use crate::library::library;

/// How the 16-byte pieces of a box's rows are spread over the banks of shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swizzle {
    /// As they come.
    None = 0,
    /// Within 32 bytes.
    Bytes32 = 32,
    /// Within 64 bytes.
    Bytes64 = 64,
    /// Within 128 bytes.
    Bytes128 = 128,
}

/// A tensor in global memory, and the box that one copy moves. The contiguous dimension comes first.
#[derive(Debug, Clone, Copy)]
pub struct TensorMap<'a> {
    /// Its first element's address, a multiple of 16.
    pub base: u64,
    /// Bytes of one element.
    pub element_bytes: u32,
    /// Elements along each dimension, at most five.
    pub extent: &'a [u64],
    /// Bytes from one element to the next along each dimension but the first, multiples of 16.
    pub stride: &'a [u64],
    /// Elements of the box along each dimension, at most 256; a row of it is a multiple of 16 bytes.
    pub shape: &'a [u32],
    /// How it is laid out in shared memory.
    pub swizzle: Swizzle,
}

/// The 128 bytes that a kernel takes as `const __grid_constant__ TensorMap`.
///
/// # Errors
/// The GPU would refuse it, or the kernels cannot be loaded.
pub fn tensor_map(map: &TensorMap) -> Result<[u8; 128], Error> {
    let refused = || Error::TensorMap(format!("{map:?} is not one that the GPU takes"));
    let rank = map.extent.len();
    if rank == 0 || rank > 5 || map.stride.len() != rank - 1 || map.shape.len() != rank {
        return Err(refused());
    }
    let mut bytes = [0; 128];
    // SAFETY: `bytes` has room for 128, and the three lists have as many entries as the rank asks for.
    let taken = unsafe {
        (library()?.tensor_map)(
            bytes.as_mut_ptr(),
            map.base,
            u32::try_from(rank).expect("the rank is at most five"),
            map.extent.as_ptr(),
            map.stride.as_ptr(),
            map.shape.as_ptr(),
            map.element_bytes,
            map.swizzle as u32,
        )
    };
    if taken { Ok(bytes) } else { Err(refused()) }
}
