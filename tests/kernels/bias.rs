use patarm::device::{Float, Stream};
use patarm::dims;
use patarm::ops::{Leaves, bias};
use patarm::tensor::DType;

use super::differences::{self, weighted};
use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, rounded, stored_numbers, stream, tensor, tensor_on};
use super::tolerance::{self, Exact};

/// (rows, columns, bounds of the leaves)
const CASES: [Case; 6] = [
    (1, 1, &[0, 1]),
    (1, 33, &[0, 0, 1]),
    (31, 31, &[0, 7, 31]),
    (33, 64, &[0, 32, 33]),
    (7, 127, &[0, 3, 3, 7]),
    (600, 101, &[0, 128, 256, 384, 512, 600]),
];

type Case = (usize, usize, &'static [usize]);

/// Inputs, rounded to the dtype they are stored in.
struct Inputs {
    x: Vec<f64>,
    bias: Vec<f64>,
    dy: Vec<f64>,
    old_dbias: Vec<f64>,
}

impl Inputs {
    fn new(dtype: DType, (n, m, _): Case) -> Self {
        let [x, dy] = [1, 2].map(|seed| stored_numbers(dtype, seed, n * m));
        let [bias, old_dbias] = [3, 4].map(|seed| stored_numbers(dtype.accumulator(), seed, m));
        Self { x, bias, dy, old_dbias }
    }
}

fn forward(stream: &Stream, dtype: DType, (x, bias): (&[f64], &[f64]), (n, m, _): Case) -> Vec<f64> {
    let bias = tensor_on(stream, dtype.accumulator(), bias, dims![C: m]);
    let mut y = Output::on(stream, dtype, x, dims![N: n, C: m]);
    bias::forward(stream, bias.view(), y.view()).unwrap();
    y.values()
}

fn backward(stream: &Stream, dtype: DType, inputs: &Inputs, (n, m, bounds): Case) -> Vec<f64> {
    let dy = tensor_on(stream, dtype, &inputs.dy, dims![N: n, C: m]);
    let mut dbias = Output::on(stream, dtype.accumulator(), &inputs.old_dbias, dims![C: m]);
    bias::backward(stream, dy.view(), &Leaves::new(bounds.to_vec()), dbias.view()).unwrap();
    dbias.values()
}

/// y and dbias: straight from the formulas, one sum after the other.
fn plain<F: Float>(inputs: &Inputs, (n, m, _): Case) -> [Vec<f64>; 2] {
    let cast = |values: &[f64]| values.iter().map(|x| F::from_f64(*x)).collect::<Vec<F>>();
    let [mut y, bias, dy, mut dbias] =
        [&inputs.x, &inputs.bias, &inputs.dy, &inputs.old_dbias].map(|v| cast(v));
    for i in 0..n * m {
        y[i] += bias[i % m];
        dbias[i % m] += dy[i];
    }
    [y, dbias].map(|v| v.into_iter().map(F::to_f64).collect())
}

/// Sums of the magnitudes of what [`plain`] adds up.
fn terms(inputs: &Inputs, case: Case) -> [Vec<f64>; 2] {
    let magnitudes = |values: &[f64]| values.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let Inputs { x, bias, dy, old_dbias } = inputs;
    let [x, bias, dy, old_dbias] = [x, bias, dy, old_dbias].map(|v| magnitudes(v));
    plain::<f64>(&Inputs { x, bias, dy, old_dbias }, case)
}

#[test]
fn gradients_are_the_slopes_of_the_forward() {
    for case in CASES {
        let inputs = Inputs::new(DType::F64, case);
        let loss =
            |bias: &[f64]| weighted(&forward(&stream(1), DType::F64, (&inputs.x, bias), case), &inputs.dy);
        let dbias = backward(&stream(2), DType::F64, &inputs, case);
        let added: Vec<f64> = dbias.iter().zip(&inputs.old_dbias).map(|(new, old)| new - old).collect();
        differences::hold("bias", &inputs.bias, &added, loss);
    }
}

/// Every result of a body where `on` runs against the f64 body's.
fn hold(on: &Stream, dtype: DType, case: Case) {
    let inputs = Inputs::new(dtype, case);
    let all =
        |on, dtype| [forward(on, dtype, (&inputs.x, &inputs.bias), case), backward(on, dtype, &inputs, case)];
    let (got, values, plain) = (all(on, dtype), all(&stream(2), DType::F64), plain::<f32>(&inputs, case));
    let compared = got.into_iter().zip(values).zip(plain).zip(terms(&inputs, case));
    for ((((got, values), plain), terms), stored) in compared.zip([dtype, DType::F32]) {
        let plain = rounded(stored, &plain);
        tolerance::hold("bias", &got, &plain, &Exact { values, terms }, stored);
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
    let with_whole_pieces = [(33, 1032, &[0usize, 32, 33] as &[usize]), (200, 24, &[0, 3, 3, 200])];
    for schedule in SCHEDULES {
        let stream = on_cpu::stream(schedule);
        CASES.iter().chain(&with_whole_pieces).for_each(|case| hold(&stream, DType::BF16, *case));
    }
}

#[test]
fn the_f64_body_follows_the_formulas() {
    for case in CASES {
        let inputs = Inputs::new(DType::F64, case);
        let got = [
            forward(&stream(1), DType::F64, (&inputs.x, &inputs.bias), case),
            backward(&stream(1), DType::F64, &inputs, case),
        ];
        for (got, plain) in got.iter().zip(plain::<f64>(&inputs, case)) {
            assert!(
                got.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 1e-12 * (1.0 + b.abs())),
                "{case:?}"
            );
        }
    }
}

/// Three bodies give the same bits, and so do the halves of the batch one after the other.
fn hold_bits(streams: &[Stream; 3], dtype: DType, case: Case) {
    let m = case.1;
    let mut inputs = Inputs::new(dtype, case);
    let whole = streams.each_ref().map(|stream| bits(&backward(stream, dtype, &inputs, case)));
    assert!(whole.iter().all(|other| *other == whole[0]));
    let parts: [(_, Case); 2] =
        [(0..256, (256, m, &[0, 128, 256])), (256..600, (344, m, &[0, 128, 256, 344]))];
    for (rows, part) in parts {
        let dy = inputs.dy[rows.start * m..rows.end * m].to_vec();
        let half = Inputs { x: Vec::new(), bias: Vec::new(), dy, old_dbias: inputs.old_dbias };
        inputs.old_dbias = backward(&streams[0], dtype, &half, part);
    }
    assert_eq!(bits(&inputs.old_dbias), whole[0]);
}

#[test]
fn neither_threads_nor_a_batch_split_between_leaves_change_a_bit() {
    for dtype in [DType::F32, DType::BF16] {
        hold_bits(&[1, 2, 3].map(stream), dtype, CASES[5]);
    }
}

#[test]
fn neither_schedules_nor_a_batch_split_between_leaves_change_a_bit_of_the_kernels() {
    for columns in [24, 101] {
        hold_bits(&SCHEDULES.map(on_cpu::stream), DType::BF16, (600, columns, CASES[5].2));
    }
}

#[test]
fn a_row_gets_the_same_bits_whatever_stands_beside_it() {
    for dtype in [DType::F32, DType::BF16] {
        let (n, m, _) = CASES[5];
        let inputs = Inputs::new(dtype, CASES[5]);
        let whole = forward(&stream(2), dtype, (&inputs.x, &inputs.bias), CASES[5]);
        for row in [0, 255, n - 1] {
            let at = row * m..(row + 1) * m;
            let alone = forward(&stream(1), dtype, (&inputs.x[at.clone()], &inputs.bias), (1, m, &[0, 1]));
            assert_eq!(bits(&alone), bits(&whole[at]));
        }
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let (stream, x) = (stream(1), [0.0; 6]);
    let mut y = Output::holding(DType::F32, &x, dims![N: 2, C: 3]);
    let short = tensor(DType::F32, &x[..2], dims![C: 2]);
    let wide = tensor(DType::F64, &x[..3], dims![C: 3]);
    assert!(bias::forward(&stream, short.view(), y.view()).is_err());
    assert!(bias::forward(&stream, wide.view(), y.view()).is_err());
    let dy = tensor(DType::F32, &x, dims![N: 2, C: 3]);
    let mut dbias = Output::holding(DType::F32, &x[..3], dims![C: 3]);
    assert!(bias::backward(&stream, dy.view(), &Leaves::one(3), dbias.view()).is_err());
}
