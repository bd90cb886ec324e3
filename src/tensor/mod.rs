//! Named dimensions, run-time dtypes, and arenas: many tensors in one allocation, every size known before the start.
//!
//! Dimension letters, the same in Rust, CUDA, tests and docs:
//!
//! | letter | what | letter | what |
//! |---|---|---|---|
//! | B | sequences | KVH | key/value heads |
//! | T | query tokens | D | head dim |
//! | S | key tokens | F | feed-forward |
//! | N | packed tokens | V | vocabulary |
//! | C | hidden | L | layers |
//! | H | query heads | G | group size |
//! | R | rank of an addition to a matrix | | |

mod arena;
mod dims;
mod dtype;
mod handle;

pub use arena::{Arena, ArenaError};
pub use dims::{Axis, Dims};
pub use dtype::{DType, Element};
pub use handle::{Tensor, View, ViewMut};

/// `dims![N: 12, C: 64]`: named dimensions, slowest first.
#[macro_export]
macro_rules! dims {
    ($($axis:ident : $size:expr),+ $(,)?) => {
        $crate::tensor::Dims::new(&[$(($crate::tensor::Axis::$axis, $size)),+])
    };
}

/// Runs `body` with `T` bound to the storage type of a floating-point dtype: `with_float!(x.dtype(), T => f::<T>(x))`.
#[macro_export]
macro_rules! with_float {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::tensor::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::tensor::DType::U32 => panic!("u32 is no floating-point dtype"),
            $crate::tensor::DType::U8 => panic!("u8 is no floating-point dtype"),
        }
    };
}
