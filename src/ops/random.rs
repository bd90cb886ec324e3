//! Fresh weights: x ~ Normal(0, spread), x ~ Uniform(-bound, bound), or a constant.
//!
//! x of any shape and dtype, written once; for a GPU drawn on the host. Each element depends on the key and its index alone.

use super::OpError;
use super::philox::{BLOCK, Key};
use crate::device::{Device, Float, Stream};
use crate::tensor::{Element, ViewMut};
use crate::with_float;

/// Elements drawn by one task.
const CHUNK: usize = 1 << 14;

/// x = normal values with mean 0 and standard deviation `spread`.
///
/// # Errors
/// When the device refuses.
pub fn normal(stream: &Stream, x: ViewMut<'_>, key: Key, spread: f64) -> Result<(), OpError> {
    fill(stream, "random_normal", x, |index| spread * gaussian(key, index))
}

/// x = values between -`bound` and `bound`, each as likely.
///
/// # Errors
/// When the device refuses.
pub fn uniform(stream: &Stream, x: ViewMut<'_>, key: Key, bound: f64) -> Result<(), OpError> {
    fill(stream, "random_uniform", x, |index| bound * (2.0 * fraction(words(key, index)[0]) - 1.0))
}

/// x = value.
///
/// # Errors
/// When the device refuses.
pub fn constant(stream: &Stream, x: ViewMut<'_>, value: f64) -> Result<(), OpError> {
    fill(stream, "random_constant", x, |_| value)
}

fn fill(
    stream: &Stream,
    op: &'static str,
    x: ViewMut<'_>,
    value: impl Fn(usize) -> f64 + Send + Sync,
) -> Result<(), OpError> {
    match stream.launch(op) {
        Device::Host(host) => with_float!(x.dtype(), T => {
            host.chunks_mut(x.host_mut::<T>(), CHUNK, |i, chunk| {
                for (j, x) in chunk.iter_mut().enumerate() {
                    *x = T::store(<<T as Element>::Acc as Float>::from_f64(value(i * CHUNK + j)));
                }
            });
            Ok(())
        }),
        Device::Cuda(_) => {
            let count = x.dims().count();
            Ok(x.write_f64((0..count).map(value))?)
        }
    }
}

/// Box and Muller's normal from two of the words that belong to `index`.
fn gaussian(key: Key, index: usize) -> f64 {
    let words = words(key, index);
    let radius = libm::sqrt(-2.0 * libm::log(fraction(words[0])));
    radius * libm::cos(std::f64::consts::TAU * fraction(words[1]))
}

fn words(key: Key, index: usize) -> [u32; BLOCK] {
    key.block((index >> 31) as u32, (index & 0x7fff_ffff) as u32)
}

/// Between 0 and 1, neither of them.
fn fraction(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::dims;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn uniform_values_have_their_moments_and_their_bounds() {
        let stream = Stream::new(Device::open(DeviceChoice::Cpu, 2).expect("a CPU"));
        let mut x = Tensor::zeros(DType::F64, dims![N: 100_003]);
        uniform(&stream, x.view_mut(), Key::of_request(7, 0, 0, 0), 2.0).expect("fits");
        let x = x.view().to_f64();
        let moment = |p| x.iter().map(|x: &f64| (x / 2.0).powi(p)).sum::<f64>() / x.len() as f64;
        for (p, expected) in [(1, 0.0), (2, 1.0 / 3.0), (3, 0.0), (4, 0.2)] {
            assert!((moment(p) - expected).abs() < 0.01, "moment {p} is {}", moment(p));
        }
        assert!(x.iter().all(|x| x.abs() < 2.0) && x.iter().any(|x| *x > 1.999));
    }

    #[test]
    fn normal_values_have_their_moments_whatever_the_threads() {
        let draw = |threads| {
            let stream = Stream::new(Device::open(DeviceChoice::Cpu, threads).expect("a CPU"));
            let mut x = Tensor::zeros(DType::F64, dims![N: 100_003]);
            normal(&stream, x.view_mut(), Key::of_request(7, 0, 0, 0), 2.0).expect("fits");
            x.view().to_f64()
        };
        let x = draw(1);
        let moment = |p| x.iter().map(|x: &f64| (x / 2.0).powi(p)).sum::<f64>() / x.len() as f64;
        for (p, expected, within) in [(1, 0.0, 0.02), (2, 1.0, 0.03), (3, 0.0, 0.06), (4, 3.0, 0.2)] {
            assert!((moment(p) - expected).abs() < within, "moment {p} is {}", moment(p));
        }
        assert_eq!(x, draw(3));
    }
}
