use crate::tensor::DType;

/// How a file stores an element. Other dtypes of the format are refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// bfloat16.
    BF16,
    /// IEEE half: read, never written.
    F16,
    /// Unsigned 32-bit integer: ids and counters of a training state.
    U32,
    /// Byte: codes of a training state.
    U8,
}

impl Stored {
    /// Bytes an element takes.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 | Self::U32 => 4,
            Self::BF16 | Self::F16 => 2,
            Self::U8 => 1,
        }
    }

    /// Name in a safetensors header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::BF16 => "BF16",
            Self::F16 => "F16",
            Self::U32 => "U32",
            Self::U8 => "U8",
        }
    }

    /// The dtype of this name in a safetensors header, if it is one of these.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::F64, Self::F32, Self::BF16, Self::F16, Self::U32, Self::U8];
        all.into_iter().find(|s| s.name() == name)
    }

    /// Whether it is a number with a fraction, and not an id or a code.
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::U32 | Self::U8)
    }
}

impl From<DType> for Stored {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self::F64,
            DType::F32 => Self::F32,
            DType::BF16 => Self::BF16,
            DType::U32 => Self::U32,
            DType::U8 => Self::U8,
        }
    }
}
