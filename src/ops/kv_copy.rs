//! Copies whole KV blocks inside a pool: a sample gets its own copy of the block that its prompt fills in part.
//!
//! pool [L, Blocks, K|V, KVH, 64, D] of any dtype; moves 2 x 2 L KVH 64 D elements a pair.

use std::collections::HashSet;

use bytemuck::{Pod, Zeroable, bytes_of};

use super::OpError;
use super::launch::{Launch, PIECE};
use crate::device::{Device, Grid, Stream};
use crate::tensor::ViewMut;

/// For each (from, to): every layer's block `to` = block `from`. No block is both written and read.
///
/// # Errors
/// When a block is not in the pool, or is both written and read.
pub fn forward(stream: &Stream, pool: ViewMut<'_>, pairs: &[(u32, u32)]) -> Result<(), OpError> {
    const OP: &str = "kv_copy_forward";
    let dims = pool.dims();
    let blocks = dims.axes().get(1).map_or(0, |axis| axis.1);
    if let Some(pair) = pairs.iter().find(|(from, to)| (*from).max(*to) as usize >= blocks) {
        return Err(OpError::Argument { op: OP, reason: format!("blocks {pair:?}: the pool has {blocks}") });
    }
    let read: HashSet<u32> = pairs.iter().map(|(from, _)| *from).collect();
    if let Some((_, block)) = pairs.iter().find(|(_, to)| read.contains(to)) {
        let reason = format!("block {block} is both written and read");
        return Err(OpError::Argument { op: OP, reason });
    }
    match stream.launch(OP) {
        Device::Host(host) => {
            let layer = dims.row_len() * pool.dtype().size();
            let bytes = layer / blocks.max(1);
            host.chunks_mut(pool.host_bytes_mut(), layer.max(1), |_, layer| {
                for (from, to) in pairs {
                    let from = *from as usize * bytes;
                    layer.copy_within(from..from + bytes, *to as usize * bytes);
                }
            });
            Ok(())
        }
        Device::Cuda(cuda) => launch(&Launch { op: OP, stem: "kv_copy", cuda }, pool, blocks, pairs),
    }
}

/// Pairs of one launch.
const PAIRS: usize = 64;
/// Pieces of a block of threads.
const PIECES: usize = 1024;

/// `BlockPairs` in `kernels/kv_copy.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct BlockPairs {
    from: [u32; PAIRS],
    to: [u32; PAIRS],
}

fn launch(
    launch: &Launch<'_>,
    pool: ViewMut<'_>,
    blocks: usize,
    pairs: &[(u32, u32)],
) -> Result<(), OpError> {
    let dims = pool.dims();
    let bytes = dims.row_len() / blocks.max(1) * pool.dtype().size();
    if !bytes.is_multiple_of(PIECE) {
        return Err(
            launch.refuse(format!("a pool {dims}: on CUDA its blocks are whole pieces of {PIECE} bytes"))
        );
    }
    let at = launch.start("pool", pool.view())?;
    let (blocks, pieces) = (launch.count("blocks", blocks)?, launch.count("pieces", bytes / PIECE)?);
    for pairs in pairs.chunks(PAIRS) {
        let mut table = BlockPairs::zeroed();
        for (i, (from, to)) in pairs.iter().enumerate() {
            (table.from[i], table.to[i]) = (*from, *to);
        }
        let along = pieces.div_ceil(PIECES as u32);
        let grid = Grid { blocks: [along, pairs.len() as u32, dims.rows() as u32], threads: 256, shared: 0 };
        let arguments = [bytes_of(&at), bytes_of(&blocks), bytes_of(&pieces), bytes_of(&table)];
        launch.run("kv_copy_forward", grid, &arguments)?;
    }
    Ok(())
}
