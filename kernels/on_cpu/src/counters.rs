//! What a launch did, counted.

/// Counts of one launch. The same fields, in this order, as `Counters` in `launch.h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// How often a thread made way for another.
    pub switches: u64,
    /// Barriers of blocks that opened.
    pub block_barriers: u64,
    /// Operations in which the lanes of a warp met.
    pub warp_operations: u64,
    /// mma.sync instructions of warps.
    pub mma: u64,
    /// ldmatrix instructions of warps.
    pub ldmatrix: u64,
    /// Reads of the banks that these took beyond one for each matrix: bank conflicts.
    pub ldmatrix_extra_passes: u64,
    /// cp.async instructions of threads.
    pub async_copies: u64,
    /// wgmma instructions of warpgroups.
    pub wgmma: u64,
    /// TMA and bulk copies.
    pub bulk_copies: u64,
    /// Loads and stores that the host compiler left in the kernel.
    pub accesses: u64,
    /// Bytes read from global memory, repeated reads included.
    pub global_bytes_read: u64,
    /// Bytes written to global memory.
    pub global_bytes_written: u64,
}
