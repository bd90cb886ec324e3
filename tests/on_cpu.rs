//! The CPU harness of the kernels against kernels of which it is known what is wrong with them, and what its mutation run
//! changes.

#[path = "../kernels/on_cpu/tests/conformance.rs"]
mod conformance;
#[path = "../kernels/on_cpu/tests/mutation.rs"]
mod mutation;
