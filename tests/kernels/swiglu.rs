use patarm::device::Float;
use patarm::dims;
use patarm::ops::swiglu;
use patarm::tensor::DType;

use super::differences::{self, weighted};
use super::tensors::{Output, numbers, rounded, stored_numbers, stream, tensor};
use super::tolerance::{self, Exact};

/// (tokens, columns)
const CASES: [(usize, usize); 5] = [(1, 1), (1, 33), (31, 31), (7, 127), (300, 101)];

fn forward(dtype: DType, [gate, up]: [&[f64]; 2], (n, f): (usize, usize)) -> Vec<f64> {
    let [gate, up] = [gate, up].map(|x| tensor(dtype, x, dims![N: n, F: f]));
    let mut out = Output::new(dtype, dims![N: n, F: f]);
    swiglu::forward(&stream(2), gate.view(), up.view(), out.view()).unwrap();
    out.values()
}

fn backward(dtype: DType, [dout, gate, up]: [&[f64]; 3], (n, f): (usize, usize)) -> [Vec<f64>; 2] {
    let dims = dims![N: n, F: f];
    let dout = tensor(dtype, dout, dims);
    let [mut gate, mut up] = [gate, up].map(|x| Output::holding(dtype, x, dims));
    swiglu::backward(&stream(2), dout.view(), gate.view(), up.view()).unwrap();
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
        let [dgate, dup] = backward(DType::F64, [&dout, &gate, &up], (n, f));
        let loss = |gate: &[f64], up: &[f64]| weighted(&forward(DType::F64, [gate, up], (n, f)), &dout);
        differences::hold("gate", &gate, &dgate, |gate| loss(gate, &up));
        differences::hold("up", &up, &dup, |up| loss(&gate, up));
    }
}

#[test]
fn f32_and_bf16_are_as_near_to_f64_as_the_plain_form() {
    for dtype in [DType::F32, DType::BF16] {
        for (n, f) in CASES {
            let [gate, up, dout] = [1, 2, 3].map(|seed| stored_numbers(dtype, seed, n * f));
            let gate = rounded(dtype, &gate.iter().map(|x| 20.0 * x).collect::<Vec<_>>());
            let all = |dtype| {
                let [dgate, dup] = backward(dtype, [&dout, &gate, &up], (n, f));
                [forward(dtype, [&gate, &up], (n, f)), dgate, dup]
            };
            let (got, values) = (all(dtype), all(DType::F64));
            for (which, (got, values)) in got.into_iter().zip(values).enumerate() {
                let one = |i: usize| plain::<f32>(dout[i], gate[i], up[i])[which];
                let plain = rounded(dtype, &(0..n * f).map(one).collect::<Vec<_>>());
                let terms =
                    (0..n * f).map(|i| (up[i].abs() + gate[i].abs()) * dout[i].abs().max(1.0)).collect();
                tolerance::hold("swiglu", &got, &plain, &Exact { values, terms }, dtype);
            }
        }
    }
}

#[test]
fn gates_far_from_zero_saturate() {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let gate = [-1000.0, -100.0, 100.0, 1000.0];
        let [dgate, dup] = backward(dtype, [&[1.0; 4], &gate, &[1.0; 4]], (2, 2));
        let stored = rounded(dtype, &gate);
        assert_eq!(forward(dtype, [&gate, &[1.0; 4]], (2, 2))[2..], stored[2..]);
        assert!(dgate[0].abs() < 1e-30 && dgate[1].abs() < 1e-30 && dgate[2..] == [1.0, 1.0], "{dgate:?}");
        assert!(dup[0].abs() < 1e-30 && dup[1].abs() < 1e-30 && dup[2..] == stored[2..], "{dup:?}");
    }
}
