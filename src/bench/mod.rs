//! Self-test and benchmarks of kernels, rollouts, steps.
