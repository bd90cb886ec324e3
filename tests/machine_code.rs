//! What the compiler made of the CUDA kernels, read out of the very images that this build embeds: registers, shared and local
//! memory, tensor-core instructions, the width of accesses. `kernels/machine_code.md` is generated from it.

#[cfg(cuobjdump)]
mod machine_code {
    mod budget;
    mod sass;
}

#[test]
#[cfg(not(cuobjdump))]
#[ignore = "needs nvcc and cuobjdump: kernels/install_nvcc --sass, then build again"]
fn kernels_keep_within_their_budgets() {}
