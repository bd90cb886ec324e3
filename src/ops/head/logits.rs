use super::{OpError, expect_dims, expect_dtype, launch, product};
use crate::device::{Device, Float, Host, Stream};
use crate::dims;
use crate::ops::Write;
use crate::tensor::{Element, View, ViewMut};
use crate::with_float;

/// 1 / T for a policy of temperature T; greedy decoding (T = 0) keeps the logits as they are.
pub fn inverse_temperature(temperature: f32) -> f64 {
    if temperature == 0.0 { 1.0 } else { 1.0 / f64::from(temperature) }
}

/// out = x wᵀ / T in the accumulator's dtype: x [B, C], w [V, C], out [B, V]. Moves (B C + V C + B V) elements, 2 B V C flops;
/// the product is rounded once, then multiplied by `inv_temperature`.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn logits(
    stream: &Stream,
    x: View<'_>,
    w: View<'_>,
    inv_temperature: f64,
    mut out: ViewMut<'_>,
) -> Result<(), OpError> {
    const OP: &str = "head_logits";
    expect_dims(OP, "out", out.dims(), dims![B: x.dims().rows(), V: w.dims().rows()])?;
    expect_dtype(OP, "out", out.dtype(), x.dtype().accumulator())?;
    match stream.launch(OP) {
        Device::Host(host) => {
            product::forward(stream, x, w, out.reborrow(), Write::Set)?;
            with_float!(x.dtype(), T => {
                let v = out.dims().row_len();
                scale_rows(host, out.host_mut::<<T as Element>::Acc>(), v, Float::from_f64(inv_temperature));
            });
            Ok(())
        }
        Device::Cuda(cuda) => launch::logits(&launch::of(OP, cuda), x, w, inv_temperature, out),
    }
}

fn scale_rows<A: Float>(host: &Host, z: &mut [A], v: usize, inv_temperature: A) {
    host.chunks_mut(z, v.max(1), |_, row| scale(row, inv_temperature));
}

/// One row of the product becomes scores.
#[inline]
pub(super) fn scale<A: Float>(row: &mut [A], inv_temperature: A) {
    if inv_temperature != A::ONE {
        row.iter_mut().for_each(|z| *z *= inv_temperature);
    }
}
