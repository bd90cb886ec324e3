//! The harness against small kernels of which it is known what is wrong with them, and with most of them nothing is.

use std::collections::BTreeSet;

use on_cpu::{Error, Launch, Swizzle, TensorMap};

/// Each kernel runs in ascending order, and in five random ones.
const SEEDS: std::ops::Range<u64> = 0..6;

/// One small kernel: blocks, threads, shared bytes, and what a report must say: one of these, or nothing.
struct Case(&'static str, u32, u32, u32, &'static [&'static str]);

const RIGHT: [Case; 17] = [
    Case("right_transpose", 1, 256, 0, &[]),
    Case("right_warp_exchange", 1, 256, 0, &[]),
    Case("right_half_warp_shuffles", 1, 256, 0, &[]),
    Case("right_shared_atomics", 1, 256, 0, &[]),
    Case("right_block_sum", 1, 256, 0, &[]),
    Case("right_last_block", 4, 64, 0, &[]),
    Case("right_async_pipeline", 1, 64, 0, &[]),
    Case("right_warp_operations", 1, 256, 0, &[]),
    Case("right_mma_layout", 1, 32, 0, &[]),
    Case("right_ldmatrix_layout", 1, 32, 0, &[]),
    Case("right_named_barriers", 1, 256, 0, &[]),
    Case("right_mbarrier_handoff", 1, 64, 0, &[]),
    Case("right_bulk_pipeline", 1, 64, 0, &[]),
    Case("right_tma_box", 1, 128, 512, &[]),
    Case("right_wgmma_k_major", 1, 128, 16384, &[]),
    Case("right_wgmma_n_major", 1, 128, 16384, &[]),
    Case("right_wgmma_registers", 1, 128, 16384, &[]),
];

const WRONG: [Case; 42] = [
    Case("wrong_missing_barrier", 1, 256, 0, &["race on shared memory", "uninitialised shared"]),
    Case("wrong_overwrites_too_early", 1, 256, 0, &["race on shared memory"]),
    Case(
        "wrong_shared_index",
        1,
        256,
        0,
        &["array index out of bounds", "4-byte write of x+1024 (its size is 1024)"],
    ),
    Case("wrong_dynamic_shared_index", 1, 256, 1024, &["4-byte write of dynamic shared memory+1024"]),
    Case(
        "wrong_global_index",
        1,
        256,
        0,
        &["4-byte read at offset 4096 of a buffer of 4096 bytes at wrong.cu:"],
    ),
    Case("wrong_negative_index", 1, 256, 0, &["4-byte read 4 bytes before a buffer of 4096 bytes"]),
    Case("wrong_shuffle_for_barrier", 1, 256, 0, &["race on shared memory"]),
    Case("wrong_divergent_shuffle", 1, 256, 0, &["warp divergence"]),
    Case("wrong_mask", 1, 256, 0, &["is not in its mask", "which does not take part"]),
    Case("wrong_two_barriers", 1, 256, 0, &["barrier divergence"]),
    Case("wrong_barrier_in_branch", 1, 256, 0, &["barrier divergence"]),
    Case("wrong_early_return", 1, 256, 0, &["divergence"]),
    Case("wrong_uninitialised_shared", 1, 256, 0, &["uninitialised shared memory x+308"]),
    Case("wrong_uninitialised_global", 1, 256, 0, &["uninitialised global memory"]),
    Case("wrong_plain_counter", 1, 256, 0, &["race on shared memory"]),
    Case("wrong_read_beside_atomics", 1, 256, 0, &["race on shared memory"]),
    Case("wrong_race_in_block", 1, 256, 0, &["race on global memory", "of this block"]),
    Case("wrong_race_between_blocks", 2, 64, 0, &["of another block"]),
    Case("wrong_reads_other_block", 2, 64, 0, &["of another block", "uninitialised global"]),
    Case("wrong_copy_without_barrier", 1, 64, 1024, &["race on shared memory", "has not been waited for"]),
    Case("wrong_copy_not_waited_for", 1, 64, 1024, &["has not been waited for"]),
    Case("wrong_copy_not_committed", 1, 64, 1024, &["has not been waited for"]),
    Case("wrong_exit_with_copies", 1, 64, 1024, &["exits with cp_async copies"]),
    Case("wrong_alignment", 1, 256, 0, &["misaligned"]),
    Case("wrong_stack", 1, 256, 0, &["stack overflow"]),
    Case("wrong_shift", 1, 256, 0, &["shift out of range"]),
    Case("wrong_endless_loop", 1, 32, 0, &["no progress"]),
    Case("wrong_mbarrier_parity", 1, 64, 0, &["mbarrier (parity 1; 1 arrivals and 0 bytes are missing)"]),
    Case("wrong_mbarrier_not_ordered", 1, 64, 0, &["not initialised", "race on shared memory"]),
    Case("wrong_mbarrier_handoff", 1, 64, 0, &["race on shared memory", "deadlock"]),
    Case("wrong_named_barriers", 1, 256, 0, &["race on shared memory", "divergence"]),
    Case("wrong_bulk_no_fence", 1, 64, 0, &["not followed by fence_mbar_init"]),
    Case("wrong_bulk_no_wait", 1, 64, 0, &["has not been waited for"]),
    Case("wrong_bulk_bytes", 1, 64, 0, &["0 arrivals and 256 bytes are missing"]),
    Case("wrong_bulk_refilled_too_early", 1, 64, 0, &["race on shared memory", "has not been waited for"]),
    Case("wrong_wgmma_no_proxy_fence", 1, 128, 16384, &["no fence_proxy_async"]),
    Case("wrong_wgmma_no_barrier", 1, 128, 16384, &["race on shared memory", "uninitialised shared"]),
    Case("wrong_wgmma_no_fence", 1, 128, 16384, &["without wgmma_fence before it"]),
    Case("wrong_wgmma_no_commit", 1, 128, 16384, &["__trap() at wrong.cu:"]),
    Case("wrong_wgmma_no_wait", 1, 128, 16384, &["__trap() at wrong.cu:"]),
    Case("wrong_wgmma_overwritten", 1, 128, 16384, &["race on shared memory", "no fence_proxy_async"]),
    Case("wrong_ldmatrix_alignment", 1, 32, 1024, &["is not 16-byte aligned"]),
];

/// 1024 different floats, and as many to write to.
struct Memory {
    input: u64,
    output: u64,
}

impl Memory {
    fn new() -> Self {
        let floats: Vec<u8> =
            (0..1024u16).flat_map(|i| (f32::from(i * 37 % 101) * 0.01).to_ne_bytes()).collect();
        let input = on_cpu::allocate(floats.len()).expect("four kilobytes can be had");
        on_cpu::upload(input, &floats).expect("the allocation is as large");
        Self { input, output: on_cpu::allocate(floats.len()).expect("four kilobytes can be had") }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        on_cpu::free(self.input).expect("it is freed once");
        on_cpu::free(self.output).expect("it is freed once");
    }
}

fn run(case: &Case, seed: u64) -> Result<on_cpu::Counters, Error> {
    let memory = Memory::new();
    let Case(kernel, blocks, threads, shared_bytes, _) = *case;
    if kernel == "right_last_block" {
        on_cpu::fill(memory.output + 1024, 0, 4).expect("the counter is in the output");
    }
    let (input, output) = (memory.input.to_ne_bytes(), memory.output.to_ne_bytes());
    let map = on_cpu::tensor_map(&TensorMap {
        base: memory.input,
        element_bytes: 4,
        extent: &[16, 16],
        stride: &[64],
        shape: &[32, 4],
        swizzle: Swizzle::Bytes128,
    })?;
    let arguments = [&input[..], &output[..], &map[..]];
    let takes = if kernel == "right_tma_box" { 3 } else { 2 };
    let (grid, block, arguments) = ([blocks, 1, 1], [threads, 1, 1], &arguments[..takes]);
    on_cpu::launch(&Launch { kernel, grid, block, shared_bytes, arguments, seed })
}

#[test]
fn nothing_is_reported_about_kernels_that_are_right() {
    for case in &RIGHT {
        for seed in SEEDS {
            run(case, seed).unwrap_or_else(|e| panic!("{} with seed {seed}:\n{e}", case.0));
        }
    }
}

#[test]
fn what_is_wrong_with_a_kernel_is_reported_under_every_schedule() {
    for case in &WRONG {
        for seed in SEEDS {
            let report = run(case, seed).expect_err(case.0).to_string();
            let named = case.4.iter().any(|part| report.contains(part));
            assert!(named, "{} with seed {seed} should say one of {:?}, and says:\n{report}", case.0, case.4);
        }
    }
}

#[test]
fn every_kernel_of_the_self_test_has_its_case() {
    let listed: BTreeSet<&str> = RIGHT.iter().chain(&WRONG).map(|case| case.0).collect();
    let sources = [include_str!("../conformance/right.cu"), include_str!("../conformance/wrong.cu")];
    let name =
        |line: &'static str| line.strip_prefix("EXPORT_KERNEL(")?.split([',', ')']).nth(1).map(str::trim);
    let written: BTreeSet<&str> = sources.into_iter().flat_map(str::lines).filter_map(name).collect();
    assert_eq!(written, listed);
}

#[test]
fn launches_from_several_threads_do_not_disturb_each_other() {
    std::thread::scope(|scope| {
        for first in 0..4 {
            scope.spawn(move || {
                for case in RIGHT.iter().skip(first).chain(WRONG.iter().take(4)) {
                    assert_eq!(run(case, 1).is_ok(), case.4.is_empty(), "{}", case.0);
                }
            });
        }
    });
}

#[test]
fn a_launch_that_a_device_would_refuse_is_refused() {
    let memory = Memory::new();
    let (input, output) = (memory.input.to_ne_bytes(), memory.output.to_ne_bytes());
    let good = Launch {
        kernel: "right_transpose",
        grid: [1, 1, 1],
        block: [256, 1, 1],
        shared_bytes: 0,
        arguments: &[&input, &output],
        seed: 0,
    };
    let refused = |launch: Launch| on_cpu::launch(&launch).expect_err("it is not launched").to_string();
    assert!(refused(Launch { kernel: "right", ..good }).contains("no kernel is called `right`"));
    assert!(refused(Launch { block: [512, 1, 1], ..good }).contains("the launch bounds allow 256"));
    assert!(refused(Launch { grid: [0, 1, 1], ..good }).contains("an empty grid"));
    assert!(refused(Launch { shared_bytes: 300_000, ..good }).contains("shared memory"));
    assert!(refused(Launch { arguments: &[&input], ..good }).contains("arguments of [8] bytes"));
    assert_eq!(on_cpu::most_threads("right_transpose"), Ok(256));
}

#[test]
fn memory_that_is_not_allocated_is_refused() {
    let memory = Memory::new();
    assert!(on_cpu::upload(memory.input, &[0; 4096]).is_ok());
    assert!(on_cpu::upload(memory.input + 1, &[0; 4096]).is_err());
    assert!(on_cpu::download(&mut [0; 8], memory.input + 4090).is_err());
    assert!(on_cpu::free(memory.input + 16).is_err());
    assert_eq!(on_cpu::first_unwritten(memory.output, 4096), Ok(Some(0)));
    on_cpu::fill(memory.output, 7, 100).expect("it is allocated");
    assert_eq!(on_cpu::first_unwritten(memory.output, 4096), Ok(Some(100)));
    on_cpu::copy(memory.output + 50, memory.output, 200).expect("it is allocated");
    assert_eq!(on_cpu::first_unwritten(memory.output, 4096), Ok(Some(150)));
}

#[test]
fn a_launch_counts_what_it_does() {
    let counters = run(&RIGHT[0], 0).expect("nothing is wrong with it");
    assert_eq!((counters.global_bytes_read, counters.global_bytes_written), (4096, 4096));
    assert_eq!(counters.block_barriers, 1);
    let counters = run(&RIGHT[9], 0).expect("nothing is wrong with it");
    assert_eq!((counters.ldmatrix, counters.ldmatrix_extra_passes), (2, 0));
}
