use bytemuck::{Pod, Zeroable};

use super::Address;

/// How the 16-byte pieces of a box's rows are spread over the banks of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// As they come.
    None,
    /// Within 32 bytes.
    Bytes32,
    /// Within 64 bytes.
    Bytes64,
    /// Within 128 bytes.
    Bytes128,
}

/// A bf16 tensor in the device's memory and the box of it that one bulk copy moves; the contiguous dimension comes first.
/// What of a box lies outside the tensor arrives as zeros.
#[derive(Clone, Copy, Debug)]
pub struct TensorMap<'a> {
    /// Its first element, at a multiple of 16 bytes.
    pub at: Address,
    /// Elements along each dimension, at most five.
    pub extent: &'a [u64],
    /// Bytes from one element to the next along each dimension but the first: multiples of 16.
    pub stride: &'a [u64],
    /// Elements of the box along each dimension, at most 256; its rows are multiples of 16 bytes, at most the swizzle's.
    pub shape: &'a [u32],
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

impl TensorMap<'_> {
    /// Whether extents, strides and shape belong together.
    pub(super) fn has_a_rank(&self) -> bool {
        let rank = self.extent.len();
        (1..=5).contains(&rank) && self.stride.len() == rank - 1 && self.shape.len() == rank
    }
}

/// A [`TensorMap`] as kernels take it: `const __grid_constant__ TensorMap` of `kernels/tma.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(128))]
pub struct EncodedMap(pub [u64; 16]);
