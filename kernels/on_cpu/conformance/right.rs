//! How the kernels of `right.cu` are launched, and what they leave behind.

/// Floats of `in` and of `out`.
pub(crate) const FLOATS: usize = 1024;

/// A kernel in which nothing is wrong.
pub(crate) struct Right {
    pub(crate) name: &'static str,
    pub(crate) blocks: u32,
    pub(crate) threads: u32,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: u32,
    /// What its third argument describes.
    pub(crate) map: Option<Map>,
    /// How many floats of `out` it writes, from the first.
    pub(crate) writes: usize,
    /// What it writes at a place.
    pub(crate) copies: fn(&[f32], usize) -> f32,
}

/// A tensor of 2-byte elements in `in`, the contiguous dimension first, and the box of it that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub(crate) extent: &'static [u64],
    pub(crate) stride: &'static [u64],
    pub(crate) shape: &'static [u32],
    /// Bytes within which pieces are spread, 0: not at all.
    pub(crate) swizzle: u32,
}

/// `in`: numbers from 0 to 1 that bf16 has to round.
pub(crate) fn input() -> Vec<f32> {
    (0..FLOATS as u16).map(|i| f32::from(i * 37 % 101) * 0.01).collect()
}

const fn right(name: &'static str, threads: u32, writes: usize, copies: fn(&[f32], usize) -> f32) -> Right {
    Right { name, blocks: 1, threads, shared: 0, map: None, writes, copies }
}

/// Copies `in`, and traps if the tile of B, and of A where `both`, multiply to anything but their product.
const fn wgmma(name: &'static str, n: u32, both: bool) -> Right {
    let tiles = if both { n + 64 } else { n };
    Right { shared: tiles * 64 * 2, ..right(name, 128, 128, same) }
}

/// A box of `columns` x 16 of a matrix of 64 x 16.
const fn tma(name: &'static str, shape: &'static [u32], swizzle: u32) -> Right {
    let map = Map { extent: &[64, 16], stride: &[128], shape, swizzle };
    Right { shared: 2048, map: Some(map), ..right(name, 128, 128, same) }
}

fn same(x: &[f32], i: usize) -> f32 {
    x[i]
}

/// Those that run on every device.
pub(crate) const PORTABLE: [Right; 15] = [
    right("right_transpose", 256, 1024, |x, i| x[i % 32 * 32 + i / 32]),
    right("right_warp_exchange", 256, 256, |x, i| x[i ^ 31]),
    right("right_half_warp_shuffles", 256, 256, |x, i| x[i] + x[i ^ (1 + i / 16 % 2)]),
    right("right_shared_atomics", 256, 256, same),
    right("right_block_sum", 256, 256, same),
    Right { blocks: 4, ..right("right_last_block", 64, 576, last_block) },
    right("right_async_pipeline", 64, 768, |x, i| {
        let (stage, from) = (i / 256, 255 - i % 256);
        if stage > 0 && from >= 240 { 0.0 } else { x[stage * 256 + from] }
    }),
    right("right_warp_operations", 256, 256, same),
    right("right_mma_layout", 32, 32, same),
    right("right_ldmatrix_layout", 32, 32, same),
    right("right_ldmatrix_conflicts", 32, 32, same),
    Right { blocks: 4, ..right("right_last_warp", 64, 576, last_warp) },
    Right { blocks: 2, ..right("right_last_warpgroup", 256, 768, last_warpgroup) },
    right("right_fast_exp2", 256, 256, same),
    right("right_named_barriers", 256, 384, |x, i| x[i / 128 * 128 + 127 - i % 128]),
];

/// Those that need compute capability 9.0.
pub(crate) const HOPPER: [Right; 24] = [
    right("right_mbarrier_handoff", 64, 128, |x, i| x[i / 32 * 32 + 31 - i % 32]),
    right("right_bulk_pipeline", 64, 256, |x, i| x[i / 64 * 64 + 63 - i % 64]),
    tma("right_tma_box", &[64, 16], 0),
    tma("right_tma_box_swizzled_32", &[16, 16], 32),
    tma("right_tma_box_swizzled_64", &[32, 16], 64),
    tma("right_tma_box_swizzled_128", &[64, 16], 128),
    Right {
        shared: 512,
        map: Some(Map { extent: &[64, 4, 4], stride: &[128, 512], shape: &[64, 2, 2], swizzle: 128 }),
        ..right("right_tma_box_3d", 128, 128, same)
    },
    wgmma("right_wgmma_n16_k_major", 16, true),
    wgmma("right_wgmma_n64_k_major", 64, true),
    wgmma("right_wgmma_n64_n_major", 64, true),
    wgmma("right_wgmma_n128_k_major", 128, true),
    wgmma("right_wgmma_n128_n_major", 128, true),
    wgmma("right_wgmma_n192_k_major", 192, true),
    wgmma("right_wgmma_n192_n_major", 192, true),
    wgmma("right_wgmma_m_major", 64, true),
    wgmma("right_wgmma_m_major_n_major", 192, true),
    wgmma("right_wgmma_n256_k_major", 256, true),
    wgmma("right_wgmma_n256_n_major", 256, true),
    wgmma("right_wgmma_n64_k_major_registers", 64, false),
    wgmma("right_wgmma_n64_n_major_registers", 64, false),
    wgmma("right_wgmma_n128_k_major_registers", 128, false),
    wgmma("right_wgmma_n128_n_major_registers", 128, false),
    wgmma("right_wgmma_n256_k_major_registers", 256, false),
    wgmma("right_wgmma_n256_n_major_registers", 256, false),
];

/// The same; each warp has its counter.
fn last_warp(x: &[f32], i: usize) -> f32 {
    last_block(x, if i == 257 { 256 } else { i })
}

/// The blocks' own quarters of `in`, the counter of second warpgroups that are done, and what those wrote, in order.
fn last_warpgroup(x: &[f32], i: usize) -> f32 {
    match i {
        0..512 => x[i],
        512 => f32::from_bits(2),
        513..640 => 0.0,
        _ => x[i - 512] + x[i - 256],
    }
}

/// The blocks' own quarters of `in`, the counter of blocks that are done, and the quarters' sum in order.
fn last_block(x: &[f32], i: usize) -> f32 {
    match i {
        0..256 => x[i],
        256 => f32::from_bits(4),
        257..512 => 0.0,
        _ => (0..4).fold(0.0, |sum, block| sum + x[block * 64 + i - 512]),
    }
}
