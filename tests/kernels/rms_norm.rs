use patarm::device::{Float, Stream};
use patarm::dims;
use patarm::ops::{Leaves, Write, rms_norm};
use patarm::tensor::DType;

use super::differences::{self, weighted};
use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, rounded, stored_numbers, stream, tensor_on};
use super::tolerance::{self, Exact};

const EPS: f64 = 1e-6;

/// (rows, columns, bounds of the leaves)
const CASES: [(usize, usize, &[usize]); 6] = [
    (1, 1, &[0, 1]),
    (1, 33, &[0, 0, 1]),
    (31, 31, &[0, 7, 31]),
    (33, 64, &[0, 32, 33]),
    (7, 127, &[0, 3, 3, 7]),
    (600, 101, &[0, 128, 256, 384, 512, 600]),
];

/// The same for the kernels: each way to deal a row to threads, full and with a tail.
const KERNEL_CASES: [Case; 15] = [
    (1, 8, &[0, 1]),
    (31, 64, &[0, 7, 31]),
    (33, 64, &[0, 32, 33]),
    (600, 24, &[0, 128, 128, 384, 600]),
    (37, 128, &[0, 3, 3, 37]),
    (301, 120, &[0, 256, 301]),
    (67, 256, &[0, 67]),
    (5, 200, &[0, 2, 5]),
    (70, 1024, &[0, 64, 70]),
    (35, 264, &[0, 35]),
    (3, 2048, &[0, 3]),
    (34, 1032, &[0, 33, 34]),
    (3, 4096, &[0, 1, 3]),
    (2, 5120, &[0, 2]),
    (2, 8192, &[0, 1, 2]),
];

type Case = (usize, usize, &'static [usize]);

/// Inputs, rounded to the dtype they are stored in.
struct Inputs {
    x: Vec<f64>,
    gain: Vec<f64>,
    dy: Vec<f64>,
    old_dx: Vec<f64>,
    old_dgain: Vec<f64>,
}

impl Inputs {
    fn new(dtype: DType, (n, c, _): Case) -> Self {
        let [x, dy, old_dx] = [1, 2, 3].map(|seed| stored_numbers(dtype, seed, n * c));
        let [gain, old_dgain] = [4, 5].map(|seed| stored_numbers(dtype.accumulator(), seed, c));
        Self { x, gain, dy, old_dx, old_dgain }
    }
}

fn forward(stream: &Stream, dtype: DType, (x, gain): (&[f64], &[f64]), (n, c, _): Case) -> [Vec<f64>; 2] {
    let sum = dtype.accumulator();
    let x = tensor_on(stream, dtype, x, dims![N: n, C: c]);
    let gain = tensor_on(stream, sum, gain, dims![C: c]);
    let mut y = Output::on(stream, dtype, &vec![0.0; n * c], dims![N: n, C: c]);
    let mut rstd = Output::on(stream, sum, &vec![0.0; n], dims![N: n]);
    rms_norm::forward(stream, x.view(), gain.view(), EPS, y.view(), rstd.view()).unwrap();
    [y.values(), rstd.values()]
}

/// dx and dgain.
fn backward(stream: &Stream, dtype: DType, inputs: &Inputs, case: Case, write: Write) -> [Vec<f64>; 2] {
    let ((n, c, bounds), sum) = (case, dtype.accumulator());
    let [_, rstd] = forward(stream, dtype, (&inputs.x, &inputs.gain), case);
    let [x, dy] = [&inputs.x, &inputs.dy].map(|v| tensor_on(stream, dtype, v, dims![N: n, C: c]));
    let gain = tensor_on(stream, sum, &inputs.gain, dims![C: c]);
    let rstd = tensor_on(stream, sum, &rstd, dims![N: n]);
    let mut dx = Output::on(stream, dtype, &inputs.old_dx, dims![N: n, C: c]);
    let mut dgain = Output::on(stream, sum, &inputs.old_dgain, dims![C: c]);
    let leaves = Leaves::new(bounds.to_vec());
    let read = rms_norm::Backward {
        dy: dy.view(),
        x: x.view(),
        gain: gain.view(),
        rstd: rstd.view(),
        leaves: &leaves,
    };
    rms_norm::backward(stream, read, dx.view(), write, Some(dgain.view())).unwrap();
    [dx.values(), dgain.values()]
}

/// y, rstd, dx added to the old, dgain: straight from the formulas, one sum after the other.
fn plain<F: Float>(inputs: &Inputs, (n, c, _): Case) -> [Vec<f64>; 4] {
    let cast = |values: &[f64]| values.iter().map(|x| F::from_f64(*x)).collect::<Vec<F>>();
    let [x, gain, dy, mut dx, mut dgain] =
        [&inputs.x, &inputs.gain, &inputs.dy, &inputs.old_dx, &inputs.old_dgain].map(|v| cast(v));
    let (mut y, mut rstd) = (Vec::new(), Vec::new());
    let count = F::from_f64(c as f64);
    for row in 0..n {
        let (x, dy) = (&x[row * c..][..c], &dy[row * c..][..c]);
        let r = F::ONE / (x.iter().map(|x| *x * *x).sum::<F>() / count + F::from_f64(EPS)).sqrt();
        let along = (0..c).map(|i| dy[i] * gain[i] * x[i]).sum::<F>() / count;
        for i in 0..c {
            y.push(x[i] * r * gain[i]);
            dx[row * c + i] += r * (dy[i] * gain[i] - x[i] * r * r * along);
            dgain[i] += dy[i] * x[i] * r;
        }
        rstd.push(r);
    }
    [y, rstd, dx, dgain].map(|v| v.into_iter().map(F::to_f64).collect())
}

/// Sums of the magnitudes of what [`plain`] adds up.
fn terms(inputs: &Inputs, rstd: &[f64], (n, c, _): Case) -> [Vec<f64>; 4] {
    let Inputs { x, gain, dy, old_dx, old_dgain } = inputs;
    let (mut y, mut dx) = (Vec::new(), Vec::new());
    let mut dgain: Vec<f64> = old_dgain.iter().map(|x| x.abs()).collect();
    for row in 0..n {
        let at = row * c..(row + 1) * c;
        let r = rstd[row];
        let along: f64 = at.clone().map(|i| (dy[i] * gain[i - row * c] * x[i]).abs()).sum::<f64>() / c as f64;
        for i in at {
            let column = i - row * c;
            y.push((x[i] * r * gain[column]).abs());
            dx.push(old_dx[i].abs() + r * ((dy[i] * gain[column]).abs() + x[i].abs() * r * r * along));
            dgain[column] += (dy[i] * x[i] * r).abs();
        }
    }
    [y, rstd.to_vec(), dx, dgain]
}

#[test]
fn gradients_are_the_slopes_of_the_forward() {
    for case in CASES {
        let inputs = Inputs::new(DType::F64, case);
        let loss = |x: &[f64], gain: &[f64]| {
            weighted(&forward(&stream(1), DType::F64, (x, gain), case)[0], &inputs.dy)
        };
        let [dx, dgain] = backward(&stream(2), DType::F64, &inputs, case, Write::Set);
        differences::hold("x", &inputs.x, &dx, |x| loss(x, &inputs.gain));
        let added: Vec<f64> = dgain.iter().zip(&inputs.old_dgain).map(|(new, old)| new - old).collect();
        differences::hold("gain", &inputs.gain, &added, |gain| loss(&inputs.x, gain));
    }
}

/// Every result of a body where `on` runs against the f64 body's.
fn hold(on: &Stream, dtype: DType, case: Case) {
    let inputs = Inputs::new(dtype, case);
    let all = |on, dtype| {
        let [y, rstd] = forward(on, dtype, (&inputs.x, &inputs.gain), case);
        let [dx, dgain] = backward(on, dtype, &inputs, case, Write::Add);
        [y, rstd, dx, dgain]
    };
    let (got, values) = (all(on, dtype), all(&stream(2), DType::F64));
    let (plain, terms) = (plain::<f32>(&inputs, case), terms(&inputs, &values[1], case));
    let stored = [dtype, DType::F32, dtype, DType::F32];
    let compared = got.into_iter().zip(values).zip(plain.into_iter().zip(terms)).zip(stored);
    for (((got, values), (plain, terms)), stored) in compared {
        let plain = rounded(stored, &plain);
        tolerance::hold("rms_norm", &got, &plain, &Exact { values, terms }, stored);
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
        KERNEL_CASES.iter().for_each(|case| hold(&stream, DType::BF16, *case));
    }
}

#[test]
fn the_f64_body_follows_the_formulas() {
    for case in CASES {
        let inputs = Inputs::new(DType::F64, case);
        let [y, rstd] = forward(&stream(1), DType::F64, (&inputs.x, &inputs.gain), case);
        let [dx, dgain] = backward(&stream(1), DType::F64, &inputs, case, Write::Add);
        for (got, plain) in [y, rstd, dx, dgain].iter().zip(plain::<f64>(&inputs, case)) {
            assert!(
                got.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 1e-12 * (1.0 + b.abs())),
                "{case:?}"
            );
        }
    }
}

/// Three bodies give the same bits, and so do the halves of the batch one after the other.
fn hold_bits(streams: &[Stream; 3], dtype: DType, case: Case) {
    let mut inputs = Inputs::new(dtype, case);
    let whole = streams.each_ref().map(|stream| backward(stream, dtype, &inputs, case, Write::Set));
    for other in &whole[1..] {
        assert_eq!(whole[0].each_ref().map(|v| bits(v)), other.each_ref().map(|v| bits(v)));
    }
    let (c, cut) = (case.1, 256);
    for (rows, bounds) in [(0..cut, &[0usize, 128, 256] as &[usize]), (cut..600, &[0, 128, 256, 344])] {
        let part = |v: &[f64]| v[rows.start * c..rows.end * c].to_vec();
        let half = Inputs {
            x: part(&inputs.x),
            dy: part(&inputs.dy),
            old_dx: part(&inputs.old_dx),
            gain: inputs.gain.clone(),
            old_dgain: inputs.old_dgain.clone(),
        };
        let [dx, dgain] = backward(&streams[0], dtype, &half, (rows.len(), c, bounds), Write::Set);
        assert_eq!(bits(&dx), bits(&part(&whole[0][0])));
        inputs.old_dgain = dgain;
    }
    assert_eq!(bits(&inputs.old_dgain), bits(&whole[0][1]));
}

#[test]
fn neither_threads_nor_a_batch_split_between_leaves_change_a_bit() {
    for dtype in [DType::F32, DType::BF16] {
        hold_bits(&[1, 2, 3].map(stream), dtype, CASES[5]);
    }
}

#[test]
fn neither_schedules_nor_a_batch_split_between_leaves_change_a_bit_of_the_kernels() {
    for columns in [24, 136] {
        hold_bits(&SCHEDULES.map(on_cpu::stream), DType::BF16, (600, columns, CASES[5].2));
    }
}

#[test]
fn more_leaves_than_a_launch_takes_are_added_in_ascending_order() {
    let bounds: Vec<usize> = (0..=300).map(|leaf| leaf * 2).collect();
    let case: Case = (600, 8, &bounds.leak()[..]);
    hold(&on_cpu::stream(0), DType::BF16, case);
}

#[test]
fn rows_that_no_kernel_takes_are_refused() {
    let stream = on_cpu::stream(0);
    for c in [7, 8200] {
        let x = tensor_on(&stream, DType::BF16, &vec![0.0; c], dims![N: 1, C: c]);
        let gain = tensor_on(&stream, DType::F32, &vec![0.0; c], dims![C: c]);
        let mut y = tensor_on(&stream, DType::BF16, &vec![0.0; c], dims![N: 1, C: c]);
        let mut rstd = tensor_on(&stream, DType::F32, &[0.0], dims![N: 1]);
        let refused = rms_norm::forward(&stream, x.view(), gain.view(), EPS, y.view_mut(), rstd.view_mut());
        assert!(refused.is_err(), "{c} columns");
    }
}

#[test]
fn heads_as_rows_scale_the_leaves() {
    assert_eq!(Leaves::new(vec![0, 3, 3, 10]).scaled(4), Leaves::new(vec![0, 12, 12, 40]));
}
