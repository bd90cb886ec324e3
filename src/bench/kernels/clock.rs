use std::time::Instant;

use serde::Serialize;

use crate::bench::BenchError;
use crate::device::{Device, DeviceError, Stream};
use crate::dims;
use crate::ops::OpError;
use crate::tensor::{DType, Tensor};

/// Repeats of one piece of work: their median and the tenths that were fastest and slowest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Seconds.
    pub median: f64,
    /// A tenth of the repeats took at most this, seconds.
    pub p10: f64,
    /// Nine tenths of the repeats took at most this, seconds.
    pub p90: f64,
    /// Repeats.
    pub repeats: usize,
}

impl Spread {
    /// Of at least one value; quantiles are the nearest values from below.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let n = seconds.len();
        assert!(n > 0, "a spread needs a value");
        let median = 0.5 * (seconds[(n - 1) / 2] + seconds[n / 2]);
        Self { median, p10: seconds[(n - 1) / 10], p90: seconds[(n - 1) * 9 / 10], repeats: n }
    }
}

/// Times work on a device: warm first, then with nothing of it left in the cache.
pub(in crate::bench) struct Clock<'a> {
    pub(super) stream: &'a Stream,
    /// Rewritten before each repeat, larger than the cache. The device is busy with it while the host asks for the work, so that
    /// no launch is waited for.
    sweep: Tensor,
    repeats: usize,
    warm_up: usize,
}

impl<'a> Clock<'a> {
    pub(in crate::bench) fn new(
        stream: &'a Stream,
        sweep: usize,
        (repeats, warm_up): (usize, usize),
    ) -> Result<Self, BenchError> {
        let sweep = Tensor::on(stream.device(), DType::F32, dims![N: sweep / 4])?;
        Ok(Self { stream, sweep, repeats: repeats.max(1), warm_up })
    }

    /// Seconds of one call of `work`.
    pub(super) fn spread(
        &mut self,
        work: impl FnMut(&Stream) -> Result<(), OpError>,
    ) -> Result<Spread, BenchError> {
        self.interleaved(work, &mut |_| {})
    }

    /// The same; `after` hears the seconds of each repeat, and has the device until it returns.
    pub(super) fn interleaved(
        &mut self,
        mut work: impl FnMut(&Stream) -> Result<(), OpError>,
        after: &mut dyn FnMut(f64),
    ) -> Result<Spread, BenchError> {
        for _ in 0..self.warm_up {
            work(self.stream)?;
        }
        let mut all = Vec::with_capacity(self.repeats);
        for _ in 0..self.repeats {
            self.sweep.zero()?;
            let seconds = seconds(self.stream, &mut work)?;
            after(seconds);
            all.push(seconds);
        }
        Ok(Spread::of(all))
    }
}

/// Seconds of `work`: between two events on a device, by the clock on the host.
pub(in crate::bench) fn seconds(
    stream: &Stream,
    mut work: impl FnMut(&Stream) -> Result<(), OpError>,
) -> Result<f64, BenchError> {
    match stream.device() {
        Device::Host(_) => {
            let start = Instant::now();
            work(stream)?;
            Ok(start.elapsed().as_secs_f64())
        }
        Device::Cuda(cuda) => {
            let mut refused = None;
            let mut step = || -> Result<(), DeviceError> {
                match work(stream) {
                    Err(OpError::Device(error)) => Err(error),
                    Err(other) => {
                        refused = Some(other);
                        Ok(())
                    }
                    Ok(()) => Ok(()),
                }
            };
            let seconds = cuda.driver().seconds(&mut step)?;
            refused.map_or(Ok(seconds), |error| Err(error.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_among_the_repeats() {
        let spread = Spread::of((0..21).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { median: 10.0, p10: 2.0, p90: 18.0, repeats: 21 });
        assert_eq!(Spread::of(vec![3.0, 1.0]), Spread { median: 2.0, p10: 1.0, p90: 1.0, repeats: 2 });
    }
}
