use serde::Serialize;

use super::clock::{Clock, Spread};
use super::{KernelOptions, case::Room};
use crate::bench::BenchError;
use crate::device::{Device, busy};
use crate::dims;
use crate::ops::{OpError, Write, bandwidth, product};
use crate::tensor::{Arena, DType};
use crate::with_float;

/// What the device can do at most, measured before any kernel in the same run.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// Reading memory that no cache holds.
    pub read: Rate,
    /// Copying such memory; bytes read and written both count.
    pub copy: Rate,
    /// Multiplying matrices.
    pub matrix: Matrix,
    /// Seconds of one launch among many of a kernel without a body; on the host of a call.
    pub launch: Spread,
}

/// Bytes moved, and how long it took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Bytes of a repeat.
    pub bytes: u64,
    /// Seconds of a repeat.
    pub seconds: Spread,
    /// Bytes a second by the median.
    pub rate: f64,
}

/// What multiplying matrices reached, and who multiplied.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    /// Who was measured.
    pub by: Multiplier,
    /// Whether NVIDIA's library was found; none on a CPU.
    pub cublas_lt: Option<Presence>,
    /// Rows and columns of the two square matrices; 0: operands in registers.
    pub side: usize,
    /// Seconds of a repeat.
    pub seconds: Spread,
    /// Floating-point operations a second by the median.
    pub rate: f64,
}

/// Who multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Multiplier {
    /// NVIDIA's library: the device's peak, as far as anybody reaches it.
    CublasLt,
    /// This program's own product, which no share of should be taken for a share of the device's peak.
    OwnProduct,
    /// All threads of the CPU in registers.
    Registers,
}

/// Whether something was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It was.
    Found,
    /// It was not.
    Absent,
}

/// Launches whose mean is one observation.
const LAUNCHES: usize = 128;
/// Rounds of multiply-adds of a CPU: a twentieth of a second.
const ROUNDS: usize = 10_000_000;

impl Ceilings {
    /// Of the clock's device.
    pub(super) fn measure(
        clock: &mut Clock<'_>,
        options: &KernelOptions,
        dtype: DType,
    ) -> Result<Self, BenchError> {
        let (read, copy) = fitting(options.stream, |bytes| streams(clock, bytes))?;
        let matrix = match clock.stream.device() {
            Device::Host(_) => registers(clock, dtype)?,
            Device::Cuda(_) => matrix(clock, options.side)?,
        };
        let many = clock.spread(|stream| (0..LAUNCHES).try_for_each(|_| bandwidth::nothing(stream)))?;
        let each = |seconds: f64| seconds / LAUNCHES as f64;
        let launch = Spread { median: each(many.median), p10: each(many.p10), p90: each(many.p90), ..many };
        Ok(Self { read, copy, matrix, launch })
    }
}

/// The same with half the bytes again and again, where memory does not hold them.
fn fitting<T>(
    mut bytes: usize,
    mut measure: impl FnMut(usize) -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    loop {
        match measure(bytes) {
            Err(error) if error.is_memory() && bytes > 1 << 20 => bytes /= 2,
            other => return other,
        }
    }
}

impl Rate {
    fn of(bytes: usize, seconds: Spread) -> Self {
        Self { bytes: bytes as u64, seconds, rate: bytes as f64 / seconds.median }
    }
}

/// Reading `bytes`, and copying one half of them to the other.
fn streams(clock: &mut Clock<'_>, bytes: usize) -> Result<(Rate, Rate), BenchError> {
    let half = bytes / 2 / 64 * 64;
    let arena = |stream: &crate::device::Stream| {
        Arena::sized("bandwidth", stream.device(), 2 * half + half / 1024 + 4096)
    };
    let mut room = Room::over(arena(clock.stream)?, clock.stream);
    let x = room.numbers(DType::F32, dims![N: half / 4])?;
    let mut y = room.numbers(DType::F32, dims![N: half / 4])?;
    let mut sums = room.zeros(DType::U32, dims![N: bandwidth::parts(half)])?;
    let read = clock.spread(|stream| {
        bandwidth::read(stream, x.view(), sums.view_mut())?;
        bandwidth::read(stream, y.view(), sums.view_mut())
    })?;
    let copy = clock.spread(|stream| bandwidth::copy(stream, x.view(), y.view_mut()))?;
    Ok((Rate::of(2 * half, read), Rate::of(2 * half, copy)))
}

/// The vendor's product of two square matrices of random numbers; our own where its library is absent.
pub(in crate::bench) fn matrix(clock: &mut Clock<'_>, side: usize) -> Result<Matrix, BenchError> {
    let (stream, dtype) = (clock.stream, DType::BF16);
    let Device::Cuda(cuda) = stream.device() else { unreachable!("asked of a GPU alone") };
    let arena = Arena::sized("matrix", stream.device(), 3 * side * side * dtype.size() + 4096)?;
    let mut room = Room::over(arena, stream);
    let (x, w) =
        (room.numbers(dtype, dims![N: side, C: side])?, room.numbers(dtype, dims![N: side, C: side])?);
    let mut y = room.zeros(dtype, dims![N: side, C: side])?;
    let operands = [x.view().address(), w.view().address(), y.view().address()];
    let theirs =
        cuda.driver().library_product([side; 3], operands).map_err(crate::device::DeviceError::from)?;
    let (by, presence, seconds) = match theirs {
        Some(product) => {
            let run = |_: &_| product().map_err(|error| OpError::Device(error.into()));
            (Multiplier::CublasLt, Presence::Found, clock.spread(run)?)
        }
        None => {
            let run = |stream: &_| product::forward(stream, x.view(), w.view(), y.view_mut(), Write::Set);
            (Multiplier::OwnProduct, Presence::Absent, clock.spread(run)?)
        }
    };
    let rate = 2.0 * (side as f64).powi(3) / seconds.median;
    Ok(Matrix { by, cublas_lt: Some(presence), side, seconds, rate })
}

fn registers(clock: &mut Clock<'_>, dtype: DType) -> Result<Matrix, BenchError> {
    let mut done = 0.0;
    let seconds = clock.spread(|stream| {
        if let Device::Host(host) = stream.device() {
            done = with_float!(dtype, T => busy::multiply_adds::<T>(host, ROUNDS));
        }
        Ok(())
    })?;
    Ok(Matrix { by: Multiplier::Registers, cublas_lt: None, side: 0, seconds, rate: done / seconds.median })
}
