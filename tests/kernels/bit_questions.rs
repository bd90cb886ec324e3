//! What the promise of equal bits rests on, asked of the device: does a product's bit depend on which operand is called the
//! weights, or on how many rows there are? And one fact that nothing rests on, printed for the record: do the two kinds of
//! tensor-core instruction round alike?

use patarm::device::Stream;
use patarm::dims;
use patarm::ops::{Write, product};
use patarm::tensor::DType;

use super::attention::{case, forward as attend};
use super::on_cpu;
use super::tensors::{Output, bits, stored_numbers, tensor_on};

/// Every core that operators may choose.
const CAPABILITIES: [[u32; 2]; 2] = [[8, 0], [9, 0]];

/// Whether a GPU answers: it is asked more than a CPU has time for.
fn on_a_gpu() -> bool {
    std::env::var_os("PATARM_TEST_DEVICE").is_some()
}

/// y [N, M] = x [N, K] w [M, K]ᵀ in f32, which shows every bit of the sums.
fn multiply(stream: &Stream, [n, m, k]: [usize; 3], [x, w]: [&[f64]; 2]) -> Vec<f64> {
    let x = tensor_on(stream, DType::BF16, x, dims![N: n, C: k]);
    let w = tensor_on(stream, DType::BF16, w, dims![N: m, C: k]);
    let mut y = Output::unknown_on(stream, DType::F32, dims![N: n, C: m]);
    product::forward(stream, x.view(), w.view(), y.view(), Write::Set).expect("a shape with kernels");
    y.values()
}

fn operands([n, m, k]: [usize; 3]) -> [Vec<f64>; 2] {
    [stored_numbers(DType::BF16, 1, n * k), stored_numbers(DType::BF16, 2, m * k)]
}

#[test]
fn exchanged_operands_give_the_transpose_to_the_bit() {
    let mut shapes = vec![[8, 72, 1160], [16, 200, 40], [64, 136, 1032], [72, 80, 264]];
    if on_a_gpu() {
        shapes.extend([[8, 12288, 4096], [16, 4096, 12288], [64, 4096, 4096], [1024, 2048, 4096]]);
    }
    for capability in CAPABILITIES {
        let stream = on_cpu::stream_of(1, capability);
        for [n, m, k] in shapes.iter().copied() {
            let [x, w] = operands([n, m, k]);
            let y = multiply(&stream, [n, m, k], [&x, &w]);
            let turned = multiply(&stream, [m, n, k], [&w, &x]);
            let differs = (0..n * m).find(|i| y[*i].to_bits() != turned[i % m * n + i / m].to_bits());
            assert_eq!(differs, None, "{:?}, of compute capability {capability:?}", [n, m, k]);
        }
    }
}

/// One below, at and one above every 2^i and 3 2^i from 8 to `most`.
fn boundaries(most: usize) -> Vec<usize> {
    let ends = (0..).map(|i| 8 << i).take_while(|end| *end <= most);
    let mut all: Vec<usize> =
        ends.flat_map(|end| [end, end * 3 / 2]).flat_map(|end| [end - 1, end, end + 1]).collect();
    all.push(1);
    all.retain(|rows| *rows <= most);
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn rows_up_to_sixteen_thousand_leave_a_rows_bits_alone() {
    let [n, m, k] = if on_a_gpu() { [16384, 520, 1160] } else { [130, 72, 1096] };
    let lengths = boundaries(n);
    let [x, w] = operands([n, m, k]);
    for capability in CAPABILITIES {
        let stream = on_cpu::stream_of(2, capability);
        let all = bits(&multiply(&stream, [n, m, k], [&x, &w]));
        for (i, length) in lengths.iter().copied().enumerate() {
            let from = (n - length) * i / lengths.len();
            let rows = &x[from * k..(from + length) * k];
            let got = bits(&multiply(&stream, [length, m, k], [rows, &w]));
            assert!(got == all[from * m..(from + length) * m], "{length} rows, {capability:?}");
        }
    }
}

/// Prints a fact about the device.
#[expect(clippy::print_stdout, reason = "observations, which the GPU suite collects")]
fn tell(fact: &str) {
    println!("fact: {fact}");
}

/// How many elements of what both cores compute differ.
fn compare(what: &str, [warps, warpgroups]: [Vec<f64>; 2]) {
    let differ = warps.iter().zip(&warpgroups).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    tell(&format!("{what}, mma.sync against wgmma: {differ} of {} elements differ", warps.len()));
}

#[test]
fn the_two_kinds_of_tensor_core_differ_by_rounding_alone() {
    if on_cpu::cuda(0, [9, 0], &[]).capability() < [9, 0] {
        return tell("this device has no wgmma");
    }
    for [n, m, k] in [[8, 64, 1160], [64, 200, 40], [200, 136, 264], [1409, 1416, 72]] {
        let [x, w] = operands([n, m, k]);
        let both = CAPABILITIES.map(|of| multiply(&on_cpu::stream_of(0, of), [n, m, k], [&x, &w]));
        // K products of at most 1, each step rounded or cut to 24 bits.
        let bound = (k * k) as f64 * 2f64.powi(-23);
        assert!(both[0].iter().zip(&both[1]).all(|(a, b)| (a - b).abs() <= bound), "{:?}", [n, m, k]);
        compare(&format!("product of {n} x {k} and {m} x {k}"), both);
    }
    let case = case(4, 2, 128, &[(261, None), (30, Some(0))]);
    let [q, k, v] =
        [case.q_len(), case.k_len(), case.k_len()].map(|len| stored_numbers(DType::BF16, len as u64, len));
    let both = CAPABILITIES.map(|of| attend(&on_cpu::stream_of(0, of), DType::BF16, &case, [&q, &k, &v]));
    let [[out, lse], [other_out, other_lse]] = both;
    // Weights and sums are rounded to bf16 on the way: two roundings of numbers of at most 1.
    assert!(out.iter().zip(&other_out).all(|(a, b)| (a - b).abs() <= 2f64.powi(-6)));
    compare("attention's output", [out, other_out]);
    compare("attention's lse", [lse, other_lse]);
}
