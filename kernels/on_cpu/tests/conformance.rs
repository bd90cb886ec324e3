//! The harness against small kernels of which it is known what is wrong with them, and with most of them nothing is.

use std::collections::BTreeSet;

use on_cpu::{Error, Launch, Swizzle, TensorMap};
use right::{HOPPER, PORTABLE, Right};

#[path = "../conformance/right.rs"]
mod right;

/// Each kernel runs in ascending order, and in five random ones.
const SEEDS: std::ops::Range<u64> = 0..6;

/// One small kernel: blocks, threads, shared bytes, and what a report must say: one of these.
struct Case(&'static str, u32, u32, u32, &'static [&'static str]);

const WRONG: [Case; 46] = [
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
    Case("wrong_no_fence_before_ticket", 4, 64, 0, &["of another block"]),
    Case("wrong_no_fence_behind_ticket", 4, 64, 0, &["of another block"]),
    Case("wrong_copy_without_barrier", 1, 64, 1024, &["race on shared memory", "has not been waited for"]),
    Case("wrong_copy_not_waited_for", 1, 64, 1024, &["has not been waited for"]),
    Case("wrong_copy_not_committed", 1, 64, 1024, &["has not been waited for"]),
    Case("wrong_exit_with_copies", 1, 64, 1024, &["exits with cp_async copies"]),
    Case("wrong_alignment", 1, 256, 0, &["misaligned"]),
    Case("wrong_register_array", 1, 256, 0, &["array index out of bounds at wrong.cu:"]),
    Case("wrong_register_vectors", 1, 256, 0, &["past the end of an array at wrong.cu:"]),
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
        let floats: Vec<u8> = right::input().into_iter().flat_map(f32::to_ne_bytes).collect();
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

/// Launches a kernel over `memory`; where it takes a third argument, with a map of what it reads.
fn launch(
    case: &Case,
    map: Option<right::Map>,
    seed: u64,
    memory: &Memory,
) -> Result<on_cpu::Counters, Error> {
    let Case(kernel, blocks, threads, shared_bytes, _) = *case;
    let (input, output) = (memory.input.to_ne_bytes(), memory.output.to_ne_bytes());
    let map = map.map(|map| encoded(memory.input, map)).transpose()?;
    let mut arguments = vec![&input[..], &output[..]];
    arguments.extend(map.as_ref().map(|map| &map[..]));
    let (grid, block, arguments) = ([blocks, 1, 1], [threads, 1, 1], &arguments[..]);
    on_cpu::launch(&Launch { kernel, grid, block, shared_bytes, arguments, seed })
}

fn encoded(base: u64, map: right::Map) -> Result<[u8; 128], Error> {
    let right::Map { extent, stride, shape, swizzle } = map;
    let swizzle = match swizzle {
        0 => Swizzle::None,
        32 => Swizzle::Bytes32,
        64 => Swizzle::Bytes64,
        _ => Swizzle::Bytes128,
    };
    on_cpu::tensor_map(&TensorMap { base, element_bytes: 2, extent, stride, shape, swizzle })
}

fn run(case: &Case, seed: u64) -> Result<on_cpu::Counters, Error> {
    let memory = Memory::new();
    if case.0.ends_with("_ticket") {
        on_cpu::fill(memory.output + 1024, 0, 4).expect("the counter is in the output");
    }
    launch(case, None, seed, &memory)
}

/// The same of a kernel of which it is known what it writes.
fn run_right(case: &Right, seed: u64) -> Result<on_cpu::Counters, Error> {
    let (memory, input) = (Memory::new(), right::input());
    on_cpu::fill(memory.output, 0, 4 * right::FLOATS)?;
    let plain = Case(case.name, case.blocks, case.threads, case.shared, &[]);
    let counters = launch(&plain, case.map, seed, &memory)?;
    let mut output = vec![0; 4 * right::FLOATS];
    on_cpu::download(&mut output, memory.output)?;
    for (i, bytes) in output.chunks_exact(4).take(case.writes).enumerate() {
        assert_eq!(bytes, (case.copies)(&input, i).to_ne_bytes(), "{} at {i}", case.name);
    }
    Ok(counters)
}

fn all_right() -> impl Iterator<Item = &'static Right> {
    PORTABLE.iter().chain(&HOPPER)
}

#[test]
fn nothing_is_reported_about_kernels_that_are_right() {
    for case in all_right() {
        for seed in SEEDS {
            run_right(case, seed).unwrap_or_else(|e| panic!("{} with seed {seed}:\n{e}", case.name));
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
    let listed: BTreeSet<&str> =
        all_right().map(|case| case.name).chain(WRONG.iter().map(|case| case.0)).collect();
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
                for case in all_right().skip(first) {
                    assert!(run_right(case, 1).is_ok(), "{}", case.name);
                }
                assert!(WRONG.iter().take(4).all(|case| run(case, 1).is_err()));
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
    let counters = run_right(&PORTABLE[0], 0).expect("nothing is wrong with it");
    assert_eq!((counters.global_bytes_read, counters.global_bytes_written), (4096, 4096));
    assert_eq!(counters.block_barriers, 1);
    let ldmatrix = |name: &str| {
        let kernel = PORTABLE.iter().find(|kernel| kernel.name == name).expect("it is in the list");
        let counters = run_right(kernel, 0).expect("nothing is wrong with it");
        (counters.ldmatrix, counters.ldmatrix_extra_passes)
    };
    assert_eq!(ldmatrix("right_ldmatrix_layout"), (2, 0));
    assert_eq!(ldmatrix("right_ldmatrix_conflicts"), (1, 4 * 7), "each matrix takes eight passes");
}
