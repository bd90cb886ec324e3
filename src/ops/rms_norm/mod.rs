//! Root-mean-square normalisation with a gain, over the last dimension. Per-head norms are the same over [N H, D].
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`forward`] | y = x r gain, r = 1 / sqrt(mean(x²) + eps) | x, y [N, C], gain [C], rstd = r [N] |
//! | [`backward`] | dx (=, +=) r (dy gain - x r² mean(dy gain x)); dgain += Σ dy x r | dy, x, dx [N, C], gain, dgain [C], rstd [N] |
//!
//! Order of sums: over a row, 16 chains of fused multiply-adds (chain i % 16, ascending i), then halves; over tokens, each leaf
//! in ascending order from zero, leaf sums added in ascending order onto dgain's old value. gain, rstd and dgain have the
//! accumulator's dtype.

mod launch;
mod work;

use super::split::{dot, rows_per_task};
use super::{Leaves, OpError, Write, expect_dims, expect_dtype};
use crate::device::{Device, Float, Host, Stream};
use crate::dims;
use crate::tensor::{Element, View, ViewMut};
use crate::with_float;

pub use work::{backward_work, forward_work};

/// y and rstd from x. Moves 2 N C elements. dtypes: x and y alike.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn forward(
    stream: &Stream,
    x: View<'_>,
    gain: View<'_>,
    eps: f64,
    y: ViewMut<'_>,
    rstd: ViewMut<'_>,
) -> Result<(), OpError> {
    const OP: &str = "rms_norm_forward";
    check(OP, x, gain, rstd.view())?;
    expect_dims(OP, "y", y.dims(), x.dims())?;
    expect_dtype(OP, "y", y.dtype(), x.dtype())?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(x.dtype(), T => {
            let out = (y.host_mut::<T>(), rstd.host_mut());
            normalise(host, x.host::<T>(), (gain.host(), Float::from_f64(eps)), out);
        }),
        Device::Cuda(cuda) => launch::forward(&launch::of(OP, cuda), [x, gain], eps, [y, rstd])?,
    }
    Ok(())
}

/// What the backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Backward<'a> {
    /// Gradient of y [N, C].
    pub dy: View<'a>,
    /// The forward's input [N, C].
    pub x: View<'a>,
    /// The forward's gain [C].
    pub gain: View<'a>,
    /// What the forward wrote [N].
    pub rstd: View<'a>,
    /// Runs of rows for dgain's sums; they cover N.
    pub leaves: &'a Leaves,
}

/// dx (`=` or `+=` as `dx_write` says) and dgain (`+=`; none where the gain does not learn). Moves 5 N C elements; on CUDA 3, or 4
/// where dx is added to, for dgain's sums ride along. dtypes: dy,
/// x and dx alike.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn backward(
    stream: &Stream,
    inputs: Backward<'_>,
    dx: ViewMut<'_>,
    dx_write: Write,
    dgain: Option<ViewMut<'_>>,
) -> Result<(), OpError> {
    const OP: &str = "rms_norm_backward";
    let Backward { dy, x, gain, rstd, leaves } = inputs;
    check(OP, x, gain, rstd)?;
    expect_dims(OP, "dy", dy.dims(), x.dims())?;
    expect_dims(OP, "dx", dx.dims(), x.dims())?;
    expect_dtype(OP, "dy", dy.dtype(), x.dtype())?;
    expect_dtype(OP, "dx", dx.dtype(), x.dtype())?;
    if let Some(dgain) = &dgain {
        expect_dims(OP, "dgain", dgain.dims(), gain.dims())?;
        expect_dtype(OP, "dgain", dgain.dtype(), gain.dtype())?;
    }
    if leaves.tokens() != x.dims().rows() {
        let reason =
            format!("x has {} rows, the leaves {}: both must agree", x.dims().rows(), leaves.tokens());
        return Err(OpError::Argument { op: OP, reason });
    }
    match stream.launch(OP) {
        Device::Host(host) => with_float!(x.dtype(), T => {
            let rows = Rows { dy: dy.host::<T>(), x: x.host::<T>(), gain: gain.host(), rstd: rstd.host() };
            rows.input_gradient(host, dx.host_mut::<T>(), dx_write);
            if let Some(dgain) = dgain {
                rows.gain_gradient(host, leaves, dgain.host_mut());
            }
        }),
        Device::Cuda(cuda) => launch::backward(&launch::of(OP, cuda), inputs, (dx, dx_write), dgain)?,
    }
    Ok(())
}

fn check(op: &'static str, x: View<'_>, gain: View<'_>, rstd: View<'_>) -> Result<(), OpError> {
    let (n, c, sum) = (x.dims().rows(), x.dims().row_len(), x.dtype().accumulator());
    expect_dims(op, "gain", gain.dims(), dims![C: c])?;
    expect_dims(op, "rstd", rstd.dims(), dims![N: n])?;
    expect_dtype(op, "gain", gain.dtype(), sum)?;
    expect_dtype(op, "rstd", rstd.dtype(), sum)
}

fn normalise<T: Element>(
    host: &Host,
    x: &[T],
    (gain, eps): (&[T::Acc], T::Acc),
    (y, rstd): (&mut [T], &mut [T::Acc]),
) {
    let c = gain.len().max(1);
    let (rows, count) = (rows_per_task(c), T::Acc::from_f64(c as f64));
    let tasks = x.chunks(rows * c).zip(y.chunks_mut(rows * c)).zip(rstd.chunks_mut(rows));
    host.run(tasks.collect(), |((x, y), rstd)| {
        for ((x, y), rstd) in x.chunks(c).zip(y.chunks_mut(c)).zip(rstd) {
            let r = T::Acc::ONE / (dot(x, x) / count + eps).sqrt();
            for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
                *y = T::store(x.load() * r * *gain);
            }
            *rstd = r;
        }
    });
}

/// The backward's inputs as slices.
struct Rows<'a, T: Element> {
    dy: &'a [T],
    x: &'a [T],
    gain: &'a [T::Acc],
    rstd: &'a [T::Acc],
}

impl<T: Element> Rows<'_, T> {
    fn input_gradient(&self, host: &Host, dx: &mut [T], write: Write) {
        let c = self.gain.len().max(1);
        let rows = rows_per_task(c);
        host.chunks_mut(dx, rows * c, |task, dx| {
            let mut scaled = vec![T::Acc::ZERO; c];
            for (n, dx) in (task * rows..).zip(dx.chunks_mut(c)) {
                self.input_gradient_row(n, &mut scaled, dx, write);
            }
        });
    }

    fn input_gradient_row(&self, n: usize, scaled: &mut [T::Acc], dx: &mut [T], write: Write) {
        let (c, r) = (scaled.len(), self.rstd[n]);
        let (dy, x) = (&self.dy[n * c..][..c], &self.x[n * c..][..c]);
        for ((scaled, dy), gain) in scaled.iter_mut().zip(dy).zip(self.gain) {
            *scaled = dy.load() * *gain;
        }
        let along = dot(x, scaled) / T::Acc::from_f64(c as f64) * r * r;
        let gradient = scaled.iter().zip(x).map(|(s, x)| r * (*s - x.load() * along));
        match write {
            Write::Set => dx.iter_mut().zip(gradient).for_each(|(dx, g)| *dx = T::store(g)),
            Write::Add => dx.iter_mut().zip(gradient).for_each(|(dx, g)| *dx = T::store(dx.load() + g)),
        }
    }

    /// Each task owns some columns and walks every row, so that the order over tokens is the contract's.
    fn gain_gradient(&self, host: &Host, leaves: &Leaves, dgain: &mut [T::Acc]) {
        let c = dgain.len();
        let width = c.div_ceil(host.threads()).next_multiple_of(16);
        host.chunks_mut(dgain, width, |task, dgain| {
            let mut sums = vec![T::Acc::ZERO; dgain.len()];
            for leaf in leaves.ranges() {
                sums.fill(T::Acc::ZERO);
                for n in leaf {
                    let from = n * c + task * width;
                    let (dy, x) = (&self.dy[from..][..sums.len()], &self.x[from..][..sums.len()]);
                    let r = self.rstd[n];
                    for ((sum, dy), x) in sums.iter_mut().zip(dy).zip(x) {
                        *sum = dy.load().fma(x.load() * r, *sum);
                    }
                }
                dgain.iter_mut().zip(&sums).for_each(|(total, sum)| *total += *sum);
            }
        });
    }
}
