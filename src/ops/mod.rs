//! Operators: what each computes, on what shapes, in which order it sums; the host's bodies and the launches.
//!
//! Every operator takes a [`Stream`](crate::device::Stream), checks every shape and dtype, and matches on the device once.

mod contract;
pub mod embedding;
pub mod kv_append;
pub mod product;
pub mod rms_norm;
pub mod rope;
mod split;
pub mod swiglu;

use contract::expect_below;
pub use contract::{Leaves, OpError, Write, expect_dims, expect_dtype};
