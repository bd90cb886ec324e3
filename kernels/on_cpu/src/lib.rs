//! Runs the CUDA kernels of `kernels/` on a CPU, for tests on machines without a GPU.
//!
//! Every CUDA thread is a fiber, a block runs on one OS thread, and every load, store, copy and barrier of a kernel is
//! checked: bounds, uninitialised reads, races by happens-before, copies that are not waited for, fences that are missing,
//! divergence and deadlock. What is wrong is reported with the line of the `.cu` file.
//!
//! Kernels are launched by name, from any number of threads at once; launches that run at the same time share no memory
//! that one of them writes. Nothing here needs `unsafe` of its callers: addresses are checked against what was allocated.
//!
//! | here | is |
//! |---|---|
//! | [`allocate`], [`free`], [`upload`], [`download`], [`fill`], [`copy`], [`first_unwritten`] | memory |
//! | [`launch`] | cuLaunchKernel, and everything that was found wrong |
//! | [`tensor_map`] | cuTensorMapEncodeTiled |
//! | [`mutation`], [`equivalents`] | kernels with one synchronisation or bound changed, to see whether tests notice |
//!
//! `ON_CPU_REPLACE=<path>/<stem>.so` loads that shared object in place of the kernels of `<stem>.cu`; several are separated
//! by colons. `ON_CPU_TRACE=<path>` is given a line for each test and each stem of which it launches a kernel.

pub mod compile;
mod counters;
pub mod equivalents;
mod error;
mod launch;
mod library;
mod memory;
pub mod mutation;
mod tensor_map;
mod trace;

pub use counters::Counters;
pub use error::Error;
pub use launch::{Launch, launch, most_threads};
pub use memory::{allocate, copy, download, fill, first_unwritten, free, upload};
pub use tensor_map::{Swizzle, TensorMap, tensor_map};
