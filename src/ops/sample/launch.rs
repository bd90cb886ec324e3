//! Drawing on a GPU: `kernels/sample.cu`.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable, cast_slice_mut};

use super::{Choice, Draw, Drawn, OpError, Truncation};
use crate::device::{Address, Cuda, Grid};
use crate::ops::launch::Launch;
use crate::tensor::{DType, View};

/// Ids of a block, and of one softmax statistic.
const IDS: usize = 2048;
const SPAN: usize = 512;
/// Ids have a place in truncation's order up to here.
const MOST_IDS: usize = 1 << 22;

/// `Args` in `kernels/sample.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    logits: Address,
    draws: Address,
    parts: Address,
    tickets: Address,
    drawn: Address,
    vocabulary: i32,
    padding: u32,
}

/// `Drawn` in `kernels/sample.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Row {
    token: u32,
    logprob: f32,
    lse: f32,
    entropy: f32,
}

const _: () = assert!(size_of::<Arguments>() == 48 && offset_of!(Arguments, vocabulary) == 40);
const _: () = assert!(size_of::<Row>() == 16);

/// `Draw` in `kernels/sample.cu`, word for word.
fn words(draw: &Draw) -> [u32; 12] {
    let [k0, k1, u0, u1] = bytemuck::cast(draw.key);
    let (choice, forced, truncation) = match draw.choice {
        Choice::Greedy => (0, 0, Truncation::NONE),
        Choice::Gumbel(Truncation::NONE) => (1, 0, Truncation::NONE),
        Choice::Forced(id) => (2, id, Truncation::NONE),
        Choice::Gumbel(truncation) => (3, 0, truncation),
    };
    let Truncation { top_k, top_p, min_p } = truncation;
    let (position, vocabulary) = (draw.position, draw.vocabulary);
    [k0, k1, u0, u1, position, vocabulary, choice, forced, top_k, top_p.to_bits(), min_p.to_bits(), 0]
}

pub(super) fn rows(
    op: &'static str,
    cuda: &Cuda,
    logits: View<'_>,
    draws: &[Draw],
    out: &mut [Drawn],
) -> Result<(), OpError> {
    let launch = Launch { op, stem: "sample", cuda };
    let [b, v] = [draws.len(), logits.dims().row_len()];
    if b == 0 {
        return Ok(());
    }
    crate::ops::expect_dtype(op, "logits", logits.dtype(), DType::F32)?;
    launch.pieces_of_row("logits", logits)?;
    if v > MOST_IDS {
        return Err(launch.refuse(format!("{v} ids: the kernels take {MOST_IDS}")));
    }
    let draws: Vec<_> = draws.iter().map(words).collect();
    let parts = b * v.div_ceil(SPAN) * 16;
    let room = cuda.scratch(parts + size_of::<Row>() * b)?;
    let arguments = Arguments {
        logits: logits.address(),
        draws: cuda.list(op, draws.as_flattened())?,
        parts: room,
        tickets: cuda.tickets(b)?,
        drawn: room.offset(parts),
        vocabulary: v as i32,
        padding: 0,
    };
    let blocks = [launch.count("blocks", v.div_ceil(IDS))?, launch.count("rows", b)?, 1];
    launch.run_with("sample_forward_f32", Grid { blocks, threads: 128, shared: 0 }, &arguments)?;
    if draws.iter().any(|draw| draw[6] == 3) {
        launch.run_with("sample_truncated_f32", Grid::row(b, 1024), &arguments)?;
    }
    let mut rows = vec![Row::zeroed(); b];
    cuda.driver()
        .download(arguments.drawn, cast_slice_mut(&mut rows))
        .map_err(crate::device::DeviceError::from)?;
    for (Row { token, logprob, lse, entropy }, out) in rows.into_iter().zip(out) {
        let [logprob, lse, entropy] = [logprob, lse, entropy].map(f64::from);
        *out = Drawn { token, logprob, lse, entropy };
    }
    Ok(())
}
