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
        Device::Cuda(_) => return Err(OpError::NoKernel { op: "scale" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, DeviceChoice};
    use crate::dims;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn every_element_is_multiplied_once_and_rounded_once() {
        let stream = Stream::new(Device::open(DeviceChoice::Cpu, 3).expect("a CPU"));
        let count = 3 * rows_per_task(1) + 31;
        let values: Vec<f64> = (0..count).map(|i| f64::from((i * 37 % 251) as u32) - 125.0).collect();
        for (dtype, spacing) in [(DType::F64, 52), (DType::F32, 23), (DType::BF16, 7)] {
            let mut x = Tensor::zeros(dtype, dims![N: count]);
            with_float!(dtype, T => {
                let x = x.view_mut().host_mut::<T>().iter_mut();
                x.zip(&values).for_each(|(x, value)| *x = T::store(Float::from_f64(*value)));
            });
            scale(&stream, x.view_mut(), 5.0 / 3.0).expect("host");
            let half = 0.5_f64.powi(spacing);
            let sound = |(x, value): (f64, &f64)| {
                (x - value * (5.0 / 3.0)).abs() <= half * (value * (5.0 / 3.0)).abs()
            };
            assert!(x.view().to_f64().into_iter().zip(&values).all(sound), "{dtype:?}");
        }
    }
}
