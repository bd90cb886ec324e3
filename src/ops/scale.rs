//! x <- factor x: a constant in place.
//!
//! x of any shape and dtype, read and written once (`=`). Every element stands alone: no sums.

use super::OpError;
use super::split::rows_per_task;
use crate::device::{Device, Float, Stream};
use crate::tensor::{Element, ViewMut};
use crate::with_float;

/// x <- factor x, in the accumulator's type, rounded once. Moves 2 elements for each of x.
///
/// # Errors
/// None on the host.
pub fn scale(stream: &Stream, x: ViewMut<'_>, factor: f64) -> Result<(), OpError> {
    match stream.launch("scale") {
        Device::Host(host) => with_float!(x.dtype(), T => {
            let factor = <<T as Element>::Acc as Float>::from_f64(factor);
            host.chunks_mut(x.host_mut::<T>(), rows_per_task(1), |_, x| {
                x.iter_mut().for_each(|x| *x = T::store(factor * x.load()));
            });
            Ok(())
        }),
        Device::Cuda(cuda) => match *cuda {},
    }
}
