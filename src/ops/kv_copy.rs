//! Copies whole KV blocks inside a pool: a sample gets its own copy of the block that its prompt fills in part.
//!
//! pool [L, Blocks, K|V, KVH, 64, D] of any dtype; moves 2 x 2 L KVH 64 D elements a pair.

use super::OpError;
use crate::device::{Device, Stream};
use crate::tensor::ViewMut;

/// For each (from, to): every layer's block `to` = block `from`. No block is both written and read.
///
/// # Errors
/// When a block is not in the pool.
pub fn forward(stream: &Stream, pool: ViewMut<'_>, pairs: &[(u32, u32)]) -> Result<(), OpError> {
    const OP: &str = "kv_copy_forward";
    let dims = pool.dims();
    let blocks = dims.axes().get(1).map_or(0, |axis| axis.1);
    if let Some(pair) = pairs.iter().find(|(from, to)| (*from).max(*to) as usize >= blocks) {
        return Err(OpError::Argument { op: OP, reason: format!("blocks {pair:?}: the pool has {blocks}") });
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
        Device::Cuda(_) => return Err(OpError::NoKernel { op: OP }),
    }
}
