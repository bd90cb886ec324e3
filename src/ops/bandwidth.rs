//! What does nothing but move memory, and what does nothing at all: the limits that other operators are measured against.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`read`] | sums\[b\] = exclusive or of the 32-bit words of part b of x | x of any shape, sums [N = [`parts`]] |
//! | [`copy`] | y = x | x, y alike |
//! | [`fill`] | x\[i\] = uniform in -1..1, a function of the seed and i | x of any shape |
//! | [`nothing`] | nothing | - |
//!
//! x is whole pieces of 16 bytes on every device. Every part and every element stands alone: no order matters, and both bodies
//! give the same bits.

use bytemuck::bytes_of;

use super::launch::Launch;
use super::{OpError, expect_dims, expect_dtype};
use crate::device::{Device, Float, Grid, Host, Stream};
use crate::dims;
use crate::tensor::{DType, Element, View, ViewMut};

const STEM: &str = "bandwidth";
/// Bytes of a piece.
const PIECE: usize = 16;
/// Bytes of a part: what a block of threads takes.
const PART: usize = 2048 * PIECE;

/// Words that [`read`] leaves of so many bytes.
pub fn parts(bytes: usize) -> usize {
    bytes.div_ceil(PART)
}

/// Reads all of x; what it leaves, one word a part, keeps anybody from skipping the reading.
///
/// # Errors
/// When shapes do not fit, or the device refuses.
pub fn read(stream: &Stream, x: View<'_>, sums: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "bandwidth_read";
    whole_pieces(OP, x)?;
    expect_dims(OP, "sums", sums.dims(), dims![N: parts(x.bytes())])?;
    expect_dtype(OP, "sums", sums.dtype(), DType::U32)?;
    match stream.launch(OP) {
        Device::Host(host) => read_host(host, x.host_bytes(), sums.ids_mut()),
        Device::Cuda(cuda) => {
            let launch = Launch { op: OP, stem: STEM, cuda };
            let (pieces, at, to) = (launch.pieces("x", x)?, x.address(), sums.address());
            launch.run(OP, grid(x), &[bytes_of(&at), bytes_of(&pieces), bytes_of(&to)])?;
        }
    }
    Ok(())
}

/// y = x, by loads and stores alone.
///
/// # Errors
/// When shapes or dtypes do not fit, or the device refuses.
pub fn copy(stream: &Stream, x: View<'_>, y: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "bandwidth_copy";
    whole_pieces(OP, x)?;
    expect_dims(OP, "y", y.dims(), x.dims())?;
    expect_dtype(OP, "y", y.dtype(), x.dtype())?;
    match stream.launch(OP) {
        Device::Host(host) => {
            let from = x.host_bytes();
            let part = |i: usize, to: &mut [u8]| to.copy_from_slice(&from[i * PART..][..to.len()]);
            host.chunks_mut(y.host_bytes_mut(), PART, part);
        }
        Device::Cuda(cuda) => {
            let launch = Launch { op: OP, stem: STEM, cuda };
            let (pieces, at, to) = (launch.pieces("x", x)?, x.address(), launch.start("y", y.view())?);
            launch.run(OP, grid(x), &[bytes_of(&at), bytes_of(&pieces), bytes_of(&to)])?;
        }
    }
    Ok(())
}

/// Fills x, bf16 or f32, with numbers that no compression and no idle multiplier makes cheap.
///
/// # Errors
/// When the dtype is another, or the device refuses.
pub fn fill(stream: &Stream, x: ViewMut<'_>, seed: u32) -> Result<(), OpError> {
    const OP: &str = "bandwidth_fill";
    whole_pieces(OP, x.view())?;
    let name = match x.dtype() {
        DType::BF16 => "bandwidth_fill_bf16",
        DType::F32 => "bandwidth_fill_f32",
        other => {
            let reason = format!("x is {other:?}, expected BF16 or F32");
            return Err(OpError::Argument { op: OP, reason });
        }
    };
    match stream.launch(OP) {
        Device::Host(host) if x.dtype() == DType::BF16 => fill_host(host, x.host_mut::<half::bf16>(), seed),
        Device::Host(host) => fill_host(host, x.host_mut::<f32>(), seed),
        Device::Cuda(cuda) => {
            let launch = Launch { op: OP, stem: STEM, cuda };
            let (pieces, at) = (launch.pieces("x", x.view())?, x.address());
            launch.run(name, grid(x.view()), &[bytes_of(&at), bytes_of(&pieces), bytes_of(&seed)])?;
        }
    }
    Ok(())
}

/// One launch of a kernel without a body; on the host one call.
///
/// # Errors
/// When the device refuses.
pub fn nothing(stream: &Stream) -> Result<(), OpError> {
    const OP: &str = "bandwidth_nothing";
    match stream.launch(OP) {
        Device::Host(_) => Ok(()),
        Device::Cuda(cuda) => Launch { op: OP, stem: STEM, cuda }.run(OP, Grid::row(1, 32), &[]),
    }
}

fn whole_pieces(op: &'static str, x: View<'_>) -> Result<(), OpError> {
    if x.bytes().is_multiple_of(PIECE) {
        return Ok(());
    }
    let reason = format!("x is {}: whole pieces of {PIECE} bytes are moved", x.dims());
    Err(OpError::Argument { op, reason })
}

fn grid(x: View<'_>) -> Grid {
    Grid::row(parts(x.bytes()), 256)
}

fn read_host(host: &Host, x: &[u8], sums: &mut [u32]) {
    host.chunks_mut(sums, 1, |part, sum| {
        let words = x[part * PART..x.len().min((part + 1) * PART)].as_chunks::<PIECE>().0;
        let folded = words.iter().fold(0u128, |sum, piece| sum ^ u128::from_ne_bytes(*piece));
        let halves = folded as u64 ^ (folded >> 64) as u64;
        sum[0] = halves as u32 ^ (halves >> 32) as u32;
    });
}

fn fill_host<T: Element>(host: &Host, x: &mut [T], seed: u32)
where
    T::Acc: Float,
{
    host.chunks_mut(x, PART, |part, x| {
        let first = part * PART;
        x.iter_mut().enumerate().for_each(|(i, x)| *x = T::store(uniform((first + i) as u64, seed)));
    });
}

fn uniform<A: Float>(i: u64, seed: u32) -> A {
    let h = mix((i as u32).wrapping_add(mix(((i >> 32) as u32).wrapping_add(seed))));
    A::from_f64(f64::from(h >> 8) / f64::from(1 << 23) - 1.0)
}

/// MurmurHash3's finalizer.
fn mix(mut h: u32) -> u32 {
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}
