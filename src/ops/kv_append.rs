//! New keys and values into the paged cache.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`forward`] | pool[layer, slot / 64, K or V, :, slot % 64, :] = k[n] or v[n] | k, v [N, KVH, D], slots [N], pool [L, Blocks, Pair, KVH, S = 64, D] |
//!
//! Copies only: no sums. Slots differ from one another.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::launch::{Launch, PIECE};
use super::work::{Work, of};
use super::{OpError, expect_below, expect_dims, expect_dtype};
use crate::device::{Address, Device, Grid, Stream};
use crate::dims;
use crate::tensor::{DType, Dims, Element, View, ViewMut};
use crate::with_float;

/// Tokens in one block of the cache.
pub const BLOCK: usize = 64;

/// [`forward`]'s, of [N, KVH, D].
pub fn work([n, kv_heads, d]: [usize; 3], storage: DType) -> Work {
    Work::moving(of(storage, 4 * n * kv_heads * d) + of(DType::U32, n))
}

/// Writes one layer's keys and values of N tokens to their slots (block * 64 + offset). Moves 4 N KVH D elements. dtypes: k, v
/// and pool alike.
///
/// # Errors
/// When shapes or dtypes do not fit, or a layer or slot is not in the pool.
pub fn forward(
    stream: &Stream,
    k: View<'_>,
    v: View<'_>,
    pool: ViewMut<'_>,
    layer: usize,
    slots: View<'_>,
) -> Result<(), OpError> {
    const OP: &str = "kv_append_forward";
    let shape = PoolShape::of(OP, pool.dims(), layer)?;
    expect_dims(OP, "k", k.dims(), dims![N: slots.dims().count(), KVH: shape.heads, D: shape.d])?;
    expect_dims(OP, "v", v.dims(), k.dims())?;
    expect_dtype(OP, "v", v.dtype(), k.dtype())?;
    expect_dtype(OP, "pool", pool.dtype(), k.dtype())?;
    expect_dtype(OP, "slots", slots.dtype(), DType::U32)?;
    match stream.launch(OP) {
        Device::Host(_) => with_float!(k.dtype(), T => {
            expect_below(OP, "slot", slots.ids(), shape.blocks * BLOCK)?;
            append(k.host::<T>(), v.host::<T>(), slots.ids(), (pool.host_mut::<T>(), shape));
        }),
        Device::Cuda(cuda) => {
            launch(&Launch { op: OP, stem: "kv_append", cuda }, [k, v], (pool, shape), slots)?
        }
    }
    Ok(())
}

/// Where one layer's keys and values lie in the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolShape {
    layer: usize,
    pub(super) blocks: usize,
    pub(super) heads: usize,
    pub(super) d: usize,
}

impl PoolShape {
    /// Reads it off the pool's dims.
    pub(super) fn of(op: &'static str, dims: Dims, layer: usize) -> Result<Self, OpError> {
        let sizes: Vec<usize> = dims.axes().iter().map(|axis| axis.1).collect();
        match sizes[..] {
            [layers, blocks, 2, heads, BLOCK, d] if layer < layers => Ok(Self { layer, blocks, heads, d }),
            _ => {
                let reason = format!(
                    "layer {layer} of a pool {dims}: expected [L, Blocks, Pair=2, KVH, S={BLOCK}, D]"
                );
                Err(OpError::Argument { op, reason })
            }
        }
    }

    /// First element of a block's keys (pair 0) or values (pair 1), head 0.
    pub(super) fn offset(&self, block: usize, pair: usize) -> usize {
        ((self.layer * self.blocks + block) * 2 + pair) * self.heads * BLOCK * self.d
    }
}

/// `KvAppend` in `kernels/kv_append.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    k: Address,
    v: Address,
    pool: Address,
    slots: Address,
    tokens: u32,
    heads: u32,
    pieces: u32,
    blocks: u32,
}

const _: () = assert!(
    size_of::<Arguments>() == 48
        && offset_of!(Arguments, tokens) == 32
        && offset_of!(Arguments, blocks) == 44
);

fn launch(
    launch: &Launch<'_>,
    [k, v]: [View<'_>; 2],
    (pool, shape): (ViewMut<'_>, PoolShape),
    slots: View<'_>,
) -> Result<(), OpError> {
    let head = shape.d * k.dtype().size();
    if !head.is_multiple_of(PIECE) {
        let reason = format!("heads of {} dims: on CUDA they are whole pieces of {PIECE} bytes", shape.d);
        return Err(launch.refuse(reason));
    }
    let layer = shape.offset(0, 0) * k.dtype().size();
    let arguments = Arguments {
        k: launch.start("k", k)?,
        v: launch.start("v", v)?,
        pool: launch.start("pool", pool.view())?.offset(layer),
        slots: slots.address(),
        tokens: launch.count("tokens", slots.dims().count())?,
        heads: launch.count("heads", shape.heads)?,
        pieces: launch.count("pieces", head / PIECE)?,
        blocks: launch.count("blocks", shape.blocks)?,
    };
    let grid = Grid::row((k.bytes() / PIECE).div_ceil(128), 128);
    launch.run_with("kv_append_forward", grid, &arguments)
}

fn append<T: Element>(k: &[T], v: &[T], slots: &[u32], (pool, shape): (&mut [T], PoolShape)) {
    let row = shape.heads * shape.d;
    for (n, &slot) in slots.iter().enumerate() {
        let (block, offset) = (slot as usize / BLOCK, slot as usize % BLOCK);
        for (pair, source) in [k, v].into_iter().enumerate() {
            let start = shape.offset(block, pair) + offset * shape.d;
            for (head, source) in source[n * row..][..row].chunks(shape.d.max(1)).enumerate() {
                pool[start + head * BLOCK * shape.d..][..shape.d].copy_from_slice(source);
            }
        }
    }
}
