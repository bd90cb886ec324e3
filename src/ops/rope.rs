//! Rotary position embedding as Qwen3 has it: the first half of a head's dims is paired with the second.
//!
//! | function | computes, for i < D/2 | shapes |
//! |---|---|---|
//! | [`forward`] | (x[i], x[i + D/2]) turned by the angle position theta^(-2i/D) | x [N, H, D], positions [N] |
//! | [`backward`] | the same turned back | dx [N, H, D], positions [N] |
//!
//! Both work in place. Cosines and sines come from a [`Table`], computed in f64 and rounded once to the accumulator's dtype.
//! Every pair stands alone: no sums beyond a c - b s and b c + a s, products and difference each rounded.

use super::split::rows_per_task;
use super::{OpError, expect_below, expect_dims, expect_dtype};
use crate::device::{Device, Host, Stream};
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
    /// When the arena is full.
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
            with_float!(dtype, T => table.fill::<T>(theta));
        }
        Ok(table)
    }

    fn fill<T: Element>(&mut self, theta: f64) {
        let half = self.cos.dims().last();
        let frequencies: Vec<f64> = (0..half).map(|i| libm::pow(theta, -(i as f64) / half as f64)).collect();
        let cos = self.cos.view_mut().host_mut::<T>().chunks_mut(half.max(1));
        let sin = self.sin.view_mut().host_mut::<T>().chunks_mut(half.max(1));
        for (position, (cos, sin)) in cos.zip(sin).enumerate() {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (s, c) = libm::sincos(position as f64 * frequency);
                cos[i] = T::store(crate::device::Float::from_f64(c));
                sin[i] = T::store(crate::device::Float::from_f64(s));
            }
        }
    }

    /// Positions that the table holds.
    pub fn positions(&self) -> usize {
        self.cos.dims().rows()
    }
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
        Device::Cuda(_) => return Err(OpError::NoKernel { op: op }),
    }
    Ok(())
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
