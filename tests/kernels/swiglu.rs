use patarm::device::{Float, Stream};
use patarm::dims;
use patarm::ops::swiglu;
use patarm::tensor::DType;

use super::differences::{self, weighted};
use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, numbers, rounded, stored_numbers, stream, tensor_on};
use super::tolerance::{self, Exact};

/// (tokens, columns)
const CASES: [(usize, usize); 5] = [(1, 1), (1, 33), (31, 31), (7, 127), (300, 101)];

fn forward(stream: &Stream, dtype: DType, [gate, up]: [&[f64]; 2], (n, f): (usize, usize)) -> Vec<f64> {
    let [gate, up] = [gate, up].map(|x| tensor_on(stream, dtype, x, dims![N: n, F: f]));
    let mut out = Output::on(stream, dtype, &vec![0.0; n * f], dims![N: n, F: f]);
    swiglu::forward(stream, gate.view(), up.view(), out.view()).unwrap();
    out.values()
}

fn backward(
    stream: &Stream,
    dtype: DType,
    [dout, gate, up]: [&[f64]; 3],
    (n, f): (usize, usize),
) -> [Vec<f64>; 2] {
    let dims = dims![N: n, F: f];
    let dout = tensor_on(stream, dtype, dout, dims);
    let [mut gate, mut up] = [gate, up].map(|x| Output::on(stream, dtype, x, dims));
    swiglu::backward(stream, dout.view(), gate.view(), up.view()).unwrap();
    [gate.values(), up.values()]
}

/// out, dgate, dup of one element.
fn plain<F: Float>(dout: f64, gate: f64, up: f64) -> [f64; 3] {
    let [dout, g, up] = [dout, gate, up].map(F::from_f64);
    let s = F::ONE / (F::ONE + (-g).exp());
    [g * s * up, dout * up * s * (F::ONE + g * (F::ONE - s)), dout * g * s].map(F::to_f64)
}

#[test]
fn gradients_are_the_slopes_of_the_forward() {
    for (n, f) in CASES {
        let [gate, up, dout] = [1, 2, 3].map(|seed| numbers(seed, n * f));
        let gate: Vec<f64> = gate.iter().map(|x| 5.0 * x).collect();
        let [dgate, dup] = backward(&stream(2), DType::F64, [&dout, &gate, &up], (n, f));
        let loss =
            |gate: &[f64], up: &[f64]| weighted(&forward(&stream(2), DType::F64, [gate, up], (n, f)), &dout);
        differences::hold("gate", &gate, &dgate, |gate| loss(gate, &up));
        differences::hold("up", &up, &dup, |up| loss(&gate, up));
    }
}

/// Every result of a body where `on` runs against the f64 body's.
fn hold(on: &Stream, dtype: DType, (n, f): (usize, usize)) {
    let [gate, up, dout] = [1, 2, 3].map(|seed| stored_numbers(dtype, seed, n * f));
    let gate = rounded(dtype, &gate.iter().map(|x| 20.0 * x).collect::<Vec<_>>());
    let all = |on, dtype| {
        let [dgate, dup] = backward(on, dtype, [&dout, &gate, &up], (n, f));
        [forward(on, dtype, [&gate, &up], (n, f)), dgate, dup]
    };
    let (got, values) = (all(on, dtype), all(&stream(2), DType::F64));
    for (which, (got, values)) in got.into_iter().zip(values).enumerate() {
        let one = |i: usize| plain::<f32>(dout[i], gate[i], up[i])[which];
        let plain = rounded(dtype, &(0..n * f).map(one).collect::<Vec<_>>());
        let terms = (0..n * f).map(|i| (up[i].abs() + gate[i].abs()) * dout[i].abs().max(1.0)).collect();
        tolerance::hold("swiglu", &got, &plain, &Exact { values, terms }, dtype);
    }
}

#[test]
fn f32_and_bf16_are_as_near_to_f64_as_the_plain_form() {
    for dtype in [DType::F32, DType::BF16] {
        CASES.iter().for_each(|case| hold(&stream(2), dtype, *case));
    }
}

#[test]
fn the_kernels_are_as_near_to_f64_as_the_plain_form() {
    for schedule in SCHEDULES {
        let stream = on_cpu::stream(schedule);
        [(1, 8), (31, 8), (5, 824)].iter().for_each(|case| hold(&stream, DType::BF16, *case));
    }
}

#[test]
fn kernels_refuse_what_is_no_whole_number_of_pieces() {
    let stream = on_cpu::stream(0);
    let gate = tensor_on(&stream, DType::BF16, &[0.0; 9], dims![N: 3, F: 3]);
    let mut out = Output::on(&stream, DType::BF16, &[0.0; 9], dims![N: 3, F: 3]);
    let error = swiglu::forward(&stream, gate.view(), gate.view(), out.view()).unwrap_err();
    assert!(error.to_string().starts_with("swiglu_forward: gate is "), "{error}");
}

#[test]
fn gates_far_from_zero_saturate() {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let gate = [-1000.0, -100.0, 100.0, 1000.0];
        let [dgate, dup] = backward(&stream(2), dtype, [&[1.0; 4], &gate, &[1.0; 4]], (2, 2));
        let stored = rounded(dtype, &gate);
        assert_eq!(forward(&stream(2), dtype, [&gate, &[1.0; 4]], (2, 2))[2..], stored[2..]);
        assert!(dgate[0].abs() < 1e-30 && dgate[1].abs() < 1e-30 && dgate[2..] == [1.0, 1.0], "{dgate:?}");
        assert!(dup[0].abs() < 1e-30 && dup[1].abs() < 1e-30 && dup[2..] == stored[2..], "{dup:?}");
    }
}
