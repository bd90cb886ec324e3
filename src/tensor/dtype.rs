use std::fmt::Debug;

use bytemuck::Pod;
use half::bf16;

use crate::device::{Float, Scalar};

/// How an element is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 64-bit float: the reference.
    F64,
    /// 32-bit float.
    F32,
    /// bfloat16: the upper half of an f32.
    BF16,
    /// Token ids, positions, slots.
    U32,
    /// Codes that stand for numbers: an optimizer's 8-bit moments.
    U8,
}

impl DType {
    /// Bytes an element takes.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 | Self::U32 => 4,
            Self::BF16 => 2,
            Self::U8 => 1,
        }
    }

    /// The dtype that sums over elements of this one are kept in.
    pub const fn accumulator(self) -> Self {
        match self {
            Self::F64 => Self::F64,
            Self::F32 | Self::BF16 => Self::F32,
            Self::U32 => Self::U32,
            Self::U8 => Self::U8,
        }
    }
}

/// A floating-point storage type and the accumulator that belongs to it: (f32, f32), (bf16, f32), (f64, f64).
pub trait Element: Pod + Debug + Default + PartialEq + Scalar<Sum = Self::Acc> {
    /// What sums are kept in.
    type Acc: Float + Element<Acc = Self::Acc>;
    /// Run-time name.
    const DTYPE: DType;

    /// Exact value.
    #[inline(always)]
    fn load(self) -> Self::Acc {
        self.widen()
    }

    /// Nearest value, ties to even.
    #[inline(always)]
    fn store(x: Self::Acc) -> Self {
        Self::narrow(x)
    }
}

impl Element for f64 {
    type Acc = f64;
    const DTYPE: DType = DType::F64;
}

impl Element for f32 {
    type Acc = f32;
    const DTYPE: DType = DType::F32;
}

impl Element for bf16 {
    type Acc = f32;
    const DTYPE: DType = DType::BF16;
}
