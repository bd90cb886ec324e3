//! Rules on the CUDA sources of `kernels/`.

use crate::rules::{Breach, File};

/// What the comment at the head of a `.cu` file says, in this order.
const FIELDS: [&str; 6] = ["Equation", "Shapes", "Traffic", "Launch", "Writes", "Source"];

/// The wrappers: only here stands inline PTX.
const WRAPPERS: [&str; 6] = ["async_copy", "barrier", "exponential", "tensor_core", "tma", "wgmma"];

/// Headers that may say what a line is on the GPU and what on the CPU.
const TWO_BODIED: [&str; 2] = ["kernel", "warp"];

/// Every rule, over one file; none where it is not a kernel or a header of kernels.
pub(crate) fn breaches(file: &File) -> Vec<Breach> {
    let is_kernel = file.path.ends_with(".cu");
    let below = file.path.strip_prefix("kernels/");
    let Some(name) = below.filter(|name| !name.contains('/') && (is_kernel || name.ends_with(".cuh"))) else {
        return Vec::new();
    };
    let stem = name.split('.').next().unwrap_or(name);
    let mut found = Vec::new();
    if is_kernel {
        found.extend(missing_field(&file.text).map(|field| {
            format!(
                "{}: its head says {}; `{field}:` is missing or out of order",
                file.path,
                FIELDS.join(", ")
            )
        }));
    }
    for (number, line) in file.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        let broken = line_rule(stem, code).map(|why| format!("{}:{}: {why}", file.path, number + 1));
        found.extend(broken);
    }
    found
}

fn missing_field(text: &str) -> Option<&'static str> {
    let mut head = text.lines().take_while(|line| line.starts_with("//"));
    let starts = |line: &str, field: &str| {
        line.strip_prefix("// ")
            .and_then(|rest| rest.strip_prefix(field))
            .is_some_and(|rest| rest.starts_with([':', ',']))
    };
    FIELDS.into_iter().find(|field| !head.any(|line| starts(line, field)))
}

fn line_rule(stem: &str, code: &str) -> Option<&'static str> {
    let is_wrapper = WRAPPERS.contains(&stem);
    let holds = |word: &str| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word);
    if holds("asm") && !is_wrapper {
        return Some(
            "inline PTX stands in the wrappers of async_copy, barrier, exponential, tensor_core, tma and wgmma.cuh",
        );
    }
    if code.trim_start().starts_with("#if") && stem != "kernel" {
        return Some("only kernel.cuh knows which compiler reads it");
    }
    let two_bodied = holds("GPU") || holds("CPU") || holds("GPU_SM90");
    if two_bodied && !is_wrapper && !TWO_BODIED.contains(&stem) {
        return Some("a kernel is the same on the GPU and on the CPU");
    }
    if code.contains("<<<") {
        return Some("kernels are launched by the wrappers of src/ops");
    }
    None
}

#[cfg(test)]
fn broken(path: &str, text: &str) -> usize {
    breaches(&File { path: path.into(), text: text.into() }).len()
}

#[test]
fn the_head_of_a_kernel_says_six_things_in_order() {
    let head: String = FIELDS.iter().map(|field| format!("// {field}: x\n//   more\n")).collect();
    assert_eq!(broken("kernels/a.cu", &head), 0);
    assert_eq!(broken("kernels/a.cu", &head.replace("// Launch:", "// Launch, in order:")), 0);
    assert_eq!(broken("kernels/a.cu", &head.replace("// Traffic:", "// Bytes:")), 1);
    assert_eq!(broken("kernels/a.cu", &format!("// Source: y\n{}", head.replace("// Source: x\n", ""))), 1);
    assert_eq!(broken("kernels/a.cuh", ""), 0);
}

#[test]
fn a_kernel_is_the_same_for_every_compiler() {
    for code in ["asm volatile(\"x\");", "#ifdef __CUDACC__", "GPU(f());", "f<<<1, 2>>>();"] {
        assert_eq!(broken("kernels/a.cuh", code), 1, "{code}");
        assert_eq!(broken("kernels/on_cpu/emulation/a.cuh", code), 0, "{code}");
    }
    assert_eq!(broken("kernels/tma.cuh", "GPU_SM90(asm(\"x\"));"), 0);
    assert_eq!(broken("kernels/a.cuh", "// asm GPU( #if"), 0);
}
