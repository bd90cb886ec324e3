//! Causal attention with grouped heads over packed spans: training, prefill and decode are one operator.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`forward`] | out = softmax(q kᵀ / √D, keys 0..=position) v, lse = log of the softmax's sum | q, out [N, H, D], lse [N, H] |
//! | [`backward`] | dq, dk, dv | dout, out, q, dq [N, H, D], lse [N, H], k, v, dk, dv [N, KVH, D] |
//!
//! A [`Span`] is a run of packed query rows of one sequence; its keys are packed rows (its own after those of the spans it
//! continues) or blocks of the paged cache. Spans cover the packed rows in order. Query head h reads key head h / (H / KVH).
//!
//! Order of sums, forward. Keys are taken in chunks of [`CHUNK`] counted from the sequence's own start. In a chunk: a score is
//! one chain of fused multiply-adds over ascending d from zero, times 1/√D; m is the largest; l adds e^(score - m) over ascending
//! keys from zero; o is one chain of fused multiply-adds over ascending keys from zero. Chunks are merged in ascending order
//! into (M, L, O): M' = max(M, m), L' = fma(L, e^(M - M'), l e^(m - M')), O' likewise; out = O / L + 0, lse = M + ln L. A masked
//! key adds exact zeros, so the bits of a row depend on nothing but its own query and the keys it sees: not on where the keys
//! lie, on its neighbours, or on threads.
//!
//! Order of sums, backward. Σ dout out is summed as a row of [`rms_norm`](super::rms_norm) is. Each element of dq is one chain of
//! fused multiply-adds over ascending keys from zero; each of dk and dv one chain from zero over ascending spans (a prompt
//! collects from its continuations in their order), queries, heads of the group.
//!
//! On a GPU, whose storage is bf16, the headers of `kernels/attention_*.cu` state the order: chunks and their merging are the
//! same, and so is what a row's bits depend on. Heads of 64 and 128 dims have kernels of their own for compute capability 9.x;
//! no device runs both for one size of head.

mod backward;
mod checks;
mod forward;
mod lanes;
mod launch;
mod layout;
mod rows;
mod variant;
mod weights;
mod work;

use std::ops::Range;
use std::sync::Arc;

use self::launch::Launch;
use super::{OpError, expect_dims, expect_dtype};
use crate::device::{Device, Stream};
use crate::dims;
use crate::tensor::{View, ViewMut};
use crate::with_float;

pub use work::{Heads, backward_work, forward_work};

/// Keys that are summed from zero before they are merged, counted from the sequence's own start. A multiple of the cache's block.
pub const CHUNK: usize = 256;

/// A run of packed query rows of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Packed rows.
    pub queries: Range<usize>,
    /// Position of the first query in its sequence: the number of keys before it.
    pub start: usize,
    /// Where the keys are.
    pub source: Source,
}

/// Where a span's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the packed rows of this very batch.
    Packed {
        /// Index of an earlier span, all of whose keys and rows come before this span's own.
        parent: Option<usize>,
    },
    /// In the paged cache, this span's own included.
    Paged {
        /// Blocks of the pool in the order of positions.
        blocks: Arc<[u32]>,
    },
}

/// The memory that the spans' sources refer to.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'a> {
    /// k and v [N, KVH, D] beside the queries.
    Packed {
        /// Keys.
        k: View<'a>,
        /// Values.
        v: View<'a>,
    },
    /// The cache [L, Blocks, Pair, KVH, S = 64, D].
    Paged {
        /// All layers.
        pool: View<'a>,
        /// The layer to read.
        layer: usize,
    },
}

/// out and lse (both `=`). 4 D flops for each (query head, key seen). dtypes: q, keys and out alike; lse their accumulator.
///
/// # Errors
/// When shapes, dtypes or spans do not fit.
pub fn forward(
    stream: &Stream,
    q: View<'_>,
    keys: Keys<'_>,
    spans: &[Span],
    out: ViewMut<'_>,
    lse: ViewMut<'_>,
) -> Result<(), OpError> {
    const OP: &str = "attention_forward";
    let shape = checks::shape(OP, q, keys)?;
    expect_dims(OP, "out", out.dims(), q.dims())?;
    expect_dtype(OP, "out", out.dtype(), q.dtype())?;
    expect_dims(OP, "lse", lse.dims(), dims![N: shape.n, H: shape.heads])?;
    expect_dtype(OP, "lse", lse.dtype(), q.dtype().accumulator())?;
    checks::spans(OP, spans, keys, &shape)?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(q.dtype(), T => {
            let rows = rows::of_spans::<T>(keys, spans, &shape);
            forward::host(host, (q.host::<T>(), shape), (spans, &rows), (out.host_mut::<T>(), lse.host_mut()));
        }),
        Device::Cuda(cuda) => Launch { op: OP, cuda, shape }.forward((q, keys), spans, (out, lse))?,
    }
    Ok(())
}

/// What the backward pass reads. Every span is packed.
#[derive(Clone, Copy, Debug)]
pub struct Backward<'a> {
    /// Gradient of out [N, H, D].
    pub dout: View<'a>,
    /// The forward's queries [N, H, D].
    pub q: View<'a>,
    /// The forward's keys [N, KVH, D].
    pub k: View<'a>,
    /// The forward's values [N, KVH, D].
    pub v: View<'a>,
    /// What the forward wrote [N, H, D].
    pub out: View<'a>,
    /// What the forward wrote [N, H].
    pub lse: View<'a>,
    /// The forward's spans.
    pub spans: &'a [Span],
}

/// dq, dk and dv (all `=`). 10 D flops for each (query head, key seen). All dtypes alike but lse's, their accumulator.
///
/// # Errors
/// When shapes, dtypes or spans do not fit.
pub fn backward(
    stream: &Stream,
    inputs: Backward<'_>,
    dq: ViewMut<'_>,
    dk: ViewMut<'_>,
    dv: ViewMut<'_>,
) -> Result<(), OpError> {
    const OP: &str = "attention_backward";
    let Backward { dout, q, k, v, out, lse, spans } = inputs;
    let keys = Keys::Packed { k, v };
    let shape = checks::shape(OP, q, keys)?;
    let like = [
        ("dout", dout, q),
        ("out", out, q),
        ("dq", dq.view(), q),
        ("dk", dk.view(), k),
        ("dv", dv.view(), k),
    ];
    for (name, view, like) in like {
        expect_dims(OP, name, view.dims(), like.dims())?;
        expect_dtype(OP, name, view.dtype(), like.dtype())?;
    }
    expect_dims(OP, "lse", lse.dims(), dims![N: shape.n, H: shape.heads])?;
    expect_dtype(OP, "lse", lse.dtype(), q.dtype().accumulator())?;
    checks::spans(OP, spans, keys, &shape)?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(q.dtype(), T => {
            let rows = rows::of_spans::<T>(keys, spans, &shape);
            let read = backward::Read {
                q: q.host::<T>(), dout: dout.host(), out: out.host(), lse: lse.host(), spans, rows: &rows, shape,
            };
            backward::host(host, &read, [dq.host_mut::<T>(), dk.host_mut(), dv.host_mut()]);
        }),
        Device::Cuda(cuda) => Launch { op: OP, cuda, shape }.backward(inputs, [dq, dk, dv])?,
    }
    Ok(())
}
