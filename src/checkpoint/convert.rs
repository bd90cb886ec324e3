use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::{Fault, Stored};
use crate::tensor::{DType, ViewMut};

/// Whether values are looked at while they are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scan {
    /// NaN, infinities, and values that the asked dtype can't hold are errors.
    #[default]
    Finite,
    /// Whatever the file holds is loaded.
    Skip,
}

/// Elements that are scanned at a time.
const BLOCK: usize = 1 << 12;

/// A float as it lies in a file or in memory, through f64: every widening is exact, every narrowing rounds once.
trait Value: bytemuck::Pod {
    fn read(bytes: &[u8]) -> Self;
    fn to_f64(self) -> f64;
    fn from_f64(x: f64) -> Self;
    fn is_finite(self) -> bool;
}

macro_rules! value {
    ($t:ty, $to:expr, $from:expr) => {
        impl Value for $t {
            #[inline(always)]
            fn read(bytes: &[u8]) -> Self {
                <$t>::from_le_bytes(bytes.try_into().expect("chunks of one element"))
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to(self)
            }
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                $from(x)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
        }
    };
}

value!(f64, |x| x, |x| x);
value!(f32, f64::from, |x| x as f32);
value!(bf16, |x: bf16| f64::from(f32::from_bits(u32::from(x.to_bits()) << 16)), bf16_from);
value!(f16, |x: f16| f64::from(x.to_f32()), f16::from_f64); // read only

/// The nearest bfloat16, ties to even. The crate's own `from_f64` looks at 20 bits of the fraction only; here the f32 between
/// is rounded to odd, which keeps the second rounding from meeting a tie that was none.
#[inline(always)]
fn bf16_from(x: f64) -> bf16 {
    let near = x as f32;
    let (bits, even, exact) = (near.to_bits(), near.to_bits() & 1 == 0, f64::from(near) == x);
    let odd = match even && !exact && !x.is_nan() {
        true if f64::from(near).abs() > x.abs() => f32::from_bits(bits - 1),
        true => f32::from_bits(bits + 1),
        false => near,
    };
    bf16::from_f32(odd)
}

/// Converts the bytes of one stored tensor into `out`; the caller has compared the shapes.
pub(super) fn convert(bytes: &[u8], stored: Stored, out: ViewMut<'_>, scan: Scan) -> Result<(), Fault> {
    match (stored, out.dtype()) {
        (Stored::U32, DType::U32) | (Stored::U8, DType::U8) => out.write_bytes(|out| {
            out.copy_from_slice(bytes);
            Ok(())
        }),
        (_, asked @ (DType::U32 | DType::U8)) => {
            Err(Fault::StoredAs { found: stored, expected: asked.into() })
        }
        (_, dtype @ DType::F64) => out.write_bytes(|out| from::<f64>(bytes, stored, out, dtype, scan)),
        (_, dtype @ DType::F32) => out.write_bytes(|out| from::<f32>(bytes, stored, out, dtype, scan)),
        (_, dtype @ DType::BF16) => out.write_bytes(|out| from::<bf16>(bytes, stored, out, dtype, scan)),
    }
}

fn from<T: Value>(
    bytes: &[u8],
    stored: Stored,
    out: &mut [u8],
    dtype: DType,
    scan: Scan,
) -> Result<(), Fault> {
    let out: &mut [T] = bytemuck::cast_slice_mut(out);
    match stored {
        Stored::F64 => cast::<f64, T>(bytes, out, scan),
        Stored::F32 => cast::<f32, T>(bytes, out, scan),
        Stored::BF16 => cast::<bf16, T>(bytes, out, scan),
        Stored::F16 => cast::<f16, T>(bytes, out, scan),
        Stored::U32 | Stored::U8 => Err(Fault::StoredAs { found: stored, expected: dtype.into() }),
    }
}

fn cast<S: Value, T: Value>(bytes: &[u8], out: &mut [T], scan: Scan) -> Result<(), Fault> {
    let values = bytes.chunks_exact(size_of::<S>());
    assert_eq!(values.len(), out.len(), "the header's check compared length and shape");
    if std::any::TypeId::of::<S>() == std::any::TypeId::of::<T>() {
        bytemuck::cast_slice_mut::<T, u8>(out).copy_from_slice(bytes); // the very bits, NaN payloads included
    } else {
        for (slot, value) in out.iter_mut().zip(values.clone()) {
            *slot = T::from_f64(S::read(value).to_f64());
        }
    }
    if scan == Scan::Finite
        && let Some(index) = first_not_finite(out)
    {
        let value = S::read(&bytes[index * size_of::<S>()..][..size_of::<S>()]).to_f64();
        return Err(Fault::NotFinite { index, value });
    }
    Ok(())
}

fn first_not_finite<T: Value>(values: &[T]) -> Option<usize> {
    // Whole blocks without an early exit: the common case runs at the speed of memory.
    let sound = |block: &[T]| block.iter().fold(true, |all, x| all & x.is_finite());
    let block = values.chunks(BLOCK).position(|block| !sound(block))?;
    let inside = values[block * BLOCK..].iter().position(|x| !x.is_finite());
    inside.map(|index| block * BLOCK + index)
}

/// The bytes of a file for `bytes` of `from`, stored as `to`: borrowed where nothing changes.
pub(super) fn narrow<'a>(bytes: &'a [u8], from: DType, to: Stored) -> std::borrow::Cow<'a, [u8]> {
    fn all<S: Value, T: Value>(bytes: &[u8]) -> Vec<u8> {
        let values: Vec<T> =
            bytes.chunks_exact(size_of::<S>()).map(|x| T::from_f64(S::read(x).to_f64())).collect();
        bytemuck::cast_slice(&values).to_vec()
    }
    match (from, to) {
        (DType::F64, Stored::F32) => all::<f64, f32>(bytes).into(),
        (DType::F64, Stored::BF16) => all::<f64, bf16>(bytes).into(),
        (DType::F32, Stored::F64) => all::<f32, f64>(bytes).into(),
        (DType::F32, Stored::BF16) => all::<f32, bf16>(bytes).into(),
        (DType::BF16, Stored::F64) => all::<bf16, f64>(bytes).into(),
        (DType::BF16, Stored::F32) => all::<bf16, f32>(bytes).into(),
        _ => bytes.into(),
    }
}
