//! Rotary position embedding as Qwen3 has it: the first half of a head's dims is paired with the second.
//!
//! | function | computes, for i < D/2 | shapes |
//! |---|---|---|
//! | [`forward`] | (x[i], x[i + D/2]) turned by the angle position theta^(-2i/D) | x [N, H, D], positions [N] |
//! | [`backward`] | the same turned back | dx [N, H, D], positions [N] |
//!
//! Both work in place. Cosines and sines come from a [`Table`], computed in f64 and rounded once to the accumulator's dtype.
//! Every pair stands alone: no sums beyond a c - b s and b c + a s, products and difference each rounded.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::launch::Launch;
use super::split::rows_per_task;
use super::work::{Work, of};
use super::{OpError, expect_below, expect_dims, expect_dtype};
use crate::device::{Address, Device, DeviceError, Grid, Host, Stream};
use crate::dims;
use crate::tensor::{Arena, ArenaError, DType, Element, Tensor, View, ViewMut};
use crate::with_float;

/// Cosine and sine of every position's angles.
#[derive(Debug)]
pub struct Table {
    cos: Tensor,
    sin: Tensor,
}

impl Table {
    /// For positions 0..`positions` of heads of `d` dims (even), kept in the accumulator of `dtype`, two tensors
    /// [positions, d / 2] in `arena`.
    ///
    /// # Errors
    /// When the arena is full, or the device refuses.
    pub fn new(
        positions: usize,
        d: usize,
        theta: f64,
        dtype: DType,
        arena: &mut Arena,
    ) -> Result<Self, ArenaError> {
        assert!(d.is_multiple_of(2), "rope turns pairs: {d} dims are odd");
        let dims = dims![T: positions, D: d / 2];
        let dtype = dtype.accumulator();
        let mut table = Self { cos: arena.tensor(dtype, dims)?, sin: arena.tensor(dtype, dims)? };
        if !arena.is_planned() {
            table.fill(theta)?;
        }
        Ok(table)
    }

    fn fill(&mut self, theta: f64) -> Result<(), DeviceError> {
        let half = self.cos.dims().last();
        let frequencies: Vec<f64> = (0..half).map(|i| libm::pow(theta, -(i as f64) / half as f64)).collect();
        let angles = |position: usize| frequencies.iter().map(move |f| libm::sincos(position as f64 * f));
        let turns: Vec<(f64, f64)> = (0..self.positions()).flat_map(angles).collect();
        self.cos.view_mut().write_f64(turns.iter().map(|turn| turn.1))?;
        self.sin.view_mut().write_f64(turns.iter().map(|turn| turn.0))
    }

    /// Positions that the table holds.
    pub fn positions(&self) -> usize {
        self.cos.dims().rows()
    }
}

/// Either direction's, of [N, H, D], where positions differ from one another as far as a table of `positions` allows.
pub fn work([n, h, d]: [usize; 3], positions: usize, storage: DType) -> Work {
    let turns = n.min(positions) * d;
    Work::moving(of(storage, 2 * n * h * d) + of(DType::U32, n) + of(storage.accumulator(), turns))
}

/// Turns every head of x in place. Moves 2 N H D elements. The table has x's accumulator.
///
/// # Errors
/// When shapes or dtypes do not fit, or a position is not in the table.
pub fn forward(stream: &Stream, x: ViewMut<'_>, positions: View<'_>, table: &Table) -> Result<(), OpError> {
    turn::<false>(stream, "rope_forward", (x, positions), table)
}

/// Turns every head's gradient back in place. Moves 2 N H D elements. The table has dx's accumulator.
///
/// # Errors
/// When shapes or dtypes do not fit, or a position is not in the table.
pub fn backward(stream: &Stream, dx: ViewMut<'_>, positions: View<'_>, table: &Table) -> Result<(), OpError> {
    turn::<true>(stream, "rope_backward", (dx, positions), table)
}

fn turn<const BACK: bool>(
    stream: &Stream,
    op: &'static str,
    (x, positions): (ViewMut<'_>, View<'_>),
    table: &Table,
) -> Result<(), OpError> {
    let (n, half) = (positions.dims().count(), table.cos.dims().last());
    let heads = x.dims().row_len() / (2 * half).max(1);
    expect_dims(op, "x", x.dims(), dims![N: n, H: heads, D: 2 * half])?;
    expect_dtype(op, "positions", positions.dtype(), DType::U32)?;
    expect_dtype(op, "table", table.cos.dtype(), x.dtype().accumulator())?;
    match stream.launch(op) {
        Device::Host(host) => with_float!(x.dtype(), T => {
            expect_below(op, "position", positions.ids(), table.positions())?;
            let (cos, sin) = (table.cos.view().host(), table.sin.view().host());
            rotate::<T, BACK>(host, (x.host_mut::<T>(), heads), positions.ids(), [cos, sin]);
        }),
        Device::Cuda(cuda) => launch(&Launch { op, stem: "rope", cuda }, x, positions, (table, BACK))?,
    }
    Ok(())
}

/// `Rope` in `kernels/rope.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    x: Address,
    positions: Address,
    cos: Address,
    sin: Address,
    tokens: u32,
    heads: u32,
    d: u32,
    table: u32,
}

const _: () = assert!(
    size_of::<Arguments>() == 48 && offset_of!(Arguments, tokens) == 32 && offset_of!(Arguments, table) == 44
);

/// Heads that a thread turns.
const THREAD_HEADS: u32 = 4;
/// Dims of a head that a thread turns: 8 of each half.
const THREAD_DIMS: u32 = 16;

fn launch(
    launch: &Launch<'_>,
    x: ViewMut<'_>,
    positions: View<'_>,
    (table, back): (&Table, bool),
) -> Result<(), OpError> {
    launch.expect_bf16("x", x.view())?;
    let d = launch.count("dims", x.dims().last())?;
    if !d.is_multiple_of(THREAD_DIMS) {
        return Err(
            launch.refuse(format!("heads of {d} dims: on CUDA they have a multiple of {THREAD_DIMS}"))
        );
    }
    let tokens = launch.count("tokens", positions.dims().count())?;
    let heads = launch.count("heads", x.dims().row_len() / d as usize)?;
    let arguments = Arguments {
        x: launch.start("x", x.view())?,
        positions: positions.address(),
        cos: launch.start("table", table.cos.view())?,
        sin: launch.start("table", table.sin.view())?,
        tokens,
        heads,
        d,
        table: launch.count("positions", table.positions())?,
    };
    let threads = tokens as usize * (d / THREAD_DIMS) as usize * heads.div_ceil(THREAD_HEADS) as usize;
    let name = if back { "rope_backward_bf16" } else { "rope_forward_bf16" };
    launch.run_with(name, Grid::row(threads.div_ceil(128), 128), &arguments)
}

fn rotate<T: Element, const BACK: bool>(
    host: &Host,
    (x, heads): (&mut [T], usize),
    positions: &[u32],
    [cos, sin]: [&[T::Acc]; 2],
) {
    let row = x.len() / positions.len().max(1);
    let (d, rows) = (row / heads.max(1), rows_per_task(row));
    host.chunks_mut(x, (rows * row).max(1), |task, x| {
        for (x, &position) in x.chunks_mut(row).zip(&positions[task * rows..]) {
            let angle = position as usize * (d / 2)..(position as usize + 1) * (d / 2);
            let (cos, sin) = (&cos[angle.clone()], &sin[angle]);
            x.chunks_mut(d).for_each(|head| rotate_head::<T, BACK>(head, cos, sin));
        }
    });
}

#[inline(always)]
fn rotate_head<T: Element, const BACK: bool>(head: &mut [T], cos: &[T::Acc], sin: &[T::Acc]) {
    let (low, high) = head.split_at_mut(cos.len());
    for ((low, high), (&c, &s)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
        let s = if BACK { -s } else { s };
        let (a, b) = (low.load(), high.load());
        *low = T::store(a * c - b * s);
        *high = T::store(b * c + a * s);
    }
}
