//! The CPU harness of the kernels against kernels of which it is known what is wrong with them.

#[path = "../kernels/on_cpu/tests/conformance.rs"]
mod conformance;
