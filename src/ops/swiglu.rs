//! The gated feed-forward's nonlinearity.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`forward`] | out = silu(gate) up | gate, up, out [N, F] |
//! | [`backward`] | gate <- dout up silu'(gate), up <- dout silu(gate) | dout, gate, up [N, F] |
//!
//! silu(g) = g s with s = 1 / (1 + e^-g), silu'(g) = s (1 + g (1 - s)). Every element stands alone: no sums.

use bytemuck::bytes_of;

use super::launch::Launch;
use super::split::rows_per_task;
use super::work::{Work, of};
use super::{OpError, expect_dims, expect_dtype};
use crate::device::{Cuda, Device, Float, Grid, Host, Stream};
use crate::tensor::{DType, Element, View, ViewMut};
use crate::with_float;

/// [`forward`]'s, of [N, F].
pub fn forward_work([n, f]: [usize; 2], storage: DType) -> Work {
    Work::moving(of(storage, 3 * n * f))
}

/// [`backward`]'s, of [N, F].
pub fn backward_work([n, f]: [usize; 2], storage: DType) -> Work {
    Work::moving(of(storage, 5 * n * f))
}

/// out = silu(gate) up. Moves 3 N F elements. All dtypes alike.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn forward(stream: &Stream, gate: View<'_>, up: View<'_>, out: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "swiglu_forward";
    expect_same(OP, "up", up, gate)?;
    expect_same(OP, "out", out.view(), gate)?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(gate.dtype(), T => {
            activate(host, gate.host::<T>(), up.host::<T>(), out.host_mut::<T>());
        }),
        Device::Cuda(cuda) => launch(OP, cuda, "swiglu_forward_bf16", [gate, up, out.view()])?,
    }
    Ok(())
}

/// Overwrites gate with its gradient and up with its own. Moves 5 N F elements. All dtypes alike.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn backward(stream: &Stream, dout: View<'_>, gate: ViewMut<'_>, up: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "swiglu_backward";
    expect_same(OP, "gate", gate.view(), dout)?;
    expect_same(OP, "up", up.view(), dout)?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(dout.dtype(), T => {
            gradients(host, dout.host::<T>(), gate.host_mut::<T>(), up.host_mut::<T>());
        }),
        Device::Cuda(cuda) => launch(OP, cuda, "swiglu_backward_bf16", [dout, gate.view(), up.view()])?,
    }
    Ok(())
}

fn expect_same(op: &'static str, name: &'static str, got: View<'_>, like: View<'_>) -> Result<(), OpError> {
    expect_dims(op, name, got.dims(), like.dims())?;
    expect_dtype(op, name, got.dtype(), like.dtype())
}

/// Either kernel: three tensors, a piece of 8 elements each at a time.
fn launch(op: &'static str, cuda: &Cuda, name: &'static str, tensors: [View<'_>; 3]) -> Result<(), OpError> {
    let launch = Launch { op, stem: "swiglu", cuda };
    launch.expect_bf16("gate", tensors[0])?;
    let pieces = launch.pieces("gate", tensors[0])?;
    let [a, b, c] = tensors.map(View::address);
    let arguments = [bytes_of(&a), bytes_of(&b), bytes_of(&c), bytes_of(&pieces)];
    launch.run(name, Grid::row(pieces.div_ceil(512) as usize, 256), &arguments)
}

#[inline(always)]
fn sigmoid<F: Float>(x: F) -> F {
    F::ONE / (F::ONE + (-x).exp())
}

fn activate<T: Element>(host: &Host, gate: &[T], up: &[T], out: &mut [T]) {
    let len = rows_per_task(1);
    host.chunks_mut(out, len, |task, out| {
        let inputs = gate[task * len..].iter().zip(&up[task * len..]);
        for (out, (gate, up)) in out.iter_mut().zip(inputs) {
            let g = gate.load();
            *out = T::store(g * sigmoid(g) * up.load());
        }
    });
}

fn gradients<T: Element>(host: &Host, dout: &[T], gate: &mut [T], up: &mut [T]) {
    let len = rows_per_task(1);
    let inputs = dout.chunks(len).zip(gate.chunks_mut(len)).zip(up.chunks_mut(len));
    host.run(inputs.collect(), |((dout, gate), up)| {
        for ((dout, gate), up) in dout.iter().zip(gate).zip(up) {
            let (dout, g, u) = (dout.load(), gate.load(), up.load());
            let s = sigmoid(g);
            let one = <T::Acc as Float>::ONE;
            *gate = T::store(dout * u * (s * (one + g * (one - s))));
            *up = T::store(dout * (g * s));
        }
    });
}
