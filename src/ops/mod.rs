//! Operators: what each computes, on what shapes, in which order it sums; the host's bodies and the launches.
//!
//! Every operator takes a [`Stream`](crate::device::Stream), checks every shape and dtype, and matches on the device once.

pub mod adamw;
pub mod attention;
pub mod bandwidth;
pub mod bias;
mod boxes;
mod contract;
pub mod embedding;
pub mod grad_norm;
pub mod grpo_loss;
pub mod head;
pub mod kv_append;
pub mod kv_copy;
mod launch;
mod leaf_sums;
pub mod philox;
pub mod product;
pub mod random;
pub mod rms_norm;
pub mod rope;
pub mod rows;
pub mod sample;
pub mod scale;
mod split;
pub mod swiglu;
mod work;

use contract::expect_below;
pub use contract::{Leaves, OpError, Write, expect_dims, expect_dtype};
pub use work::Work;
