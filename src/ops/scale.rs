//! x <- factor x: a constant in place.
//!
//! x of any shape and dtype, read and written once (`=`). Every element stands alone: no sums.

use bytemuck::bytes_of;

use super::OpError;
use super::launch::{Launch, PIECE};
use super::split::rows_per_task;
use crate::device::{Device, Float, Grid, Stream};
use crate::tensor::{DType, Element, ViewMut};
use crate::with_float;

/// x <- factor x, in the accumulator's type, rounded once. Moves 2 elements for each of x.
///
/// # Errors
/// None on the host; on CUDA when the dtype has no kernel.
pub fn scale(stream: &Stream, x: ViewMut<'_>, factor: f64) -> Result<(), OpError> {
    match stream.launch("scale") {
        Device::Host(host) => with_float!(x.dtype(), T => {
            let factor = <<T as Element>::Acc as Float>::from_f64(factor);
            host.chunks_mut(x.host_mut::<T>(), rows_per_task(1), |_, x| {
                x.iter_mut().for_each(|x| *x = T::store(factor * x.load()));
            });
            Ok(())
        }),
        Device::Cuda(cuda) => on_cuda(&Launch { op: "scale", stem: "scale", cuda }, x, factor as f32),
    }
}

fn on_cuda(launch: &Launch<'_>, x: ViewMut<'_>, factor: f32) -> Result<(), OpError> {
    let name = match x.dtype() {
        DType::BF16 => "scale_bf16",
        DType::F32 => "scale_f32",
        other => return Err(launch.refuse(format!("x is {other:?}: there are kernels for BF16 and F32"))),
    };
    let (at, count) = (launch.start("x", x.view())?, x.dims().count() as u64);
    let blocks = x.view().bytes().div_ceil(PIECE).div_ceil(1024);
    launch.run(name, Grid::row(blocks, 256), &[bytes_of(&at), bytes_of(&count), bytes_of(&factor)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::dims;
    use crate::tensor::Tensor;

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
