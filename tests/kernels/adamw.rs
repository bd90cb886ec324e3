use patarm::device::Stream;
use patarm::dims;
use patarm::ops::adamw::{AdamW, Param, Rounding, step};
use patarm::ops::grad_norm::{square_sum, square_sums};
use patarm::ops::philox::Key;
use patarm::tensor::DType;

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, numbers, rounded, stored_numbers, stream, tensor, tensor_on};
use super::tolerance::{self, Exact};

/// Elements: one, few, and more than threads take at a time.
const COUNTS: [usize; 5] = [1, 31, 33, 997, 40_009];

pub(super) fn settings(step: u64) -> AdamW {
    AdamW {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        step,
        grad_scale: 0.7,
        rounding: Rounding::Nearest,
    }
}

/// w, m, v after each of three steps with the same gradient.
fn run(dtype: DType, threads: usize, n: usize) -> [Vec<f64>; 3] {
    let sum = dtype.accumulator();
    let g = tensor(sum, &stored_numbers(sum, 2, n), dims![N: n]);
    let mut w = Output::holding(dtype, &stored_numbers(dtype, 1, n), dims![N: n]);
    let [mut m, mut v] = [(); 2].map(|()| Output::holding(sum, &vec![0.0; n], dims![N: n]));
    for count in 1..=3 {
        let param = Param { w: w.view(), g: g.view(), m: m.view(), v: v.view(), scales: None, master: None };
        step(&stream(threads), param, &settings(count)).unwrap();
    }
    [w, m, v].map(|output| output.values())
}

/// Adam as the paper writes it, decay first, each result rounded; with magnitudes of the terms.
fn plain(inputs: [&[f64]; 2], round: impl Fn(f64) -> f64, store: impl Fn(f64) -> f64) -> [[Vec<f64>; 3]; 2] {
    let mut out = [const { [const { Vec::new() }; 3] }; 2];
    for (w, g) in inputs[0].iter().zip(inputs[1]) {
        let (mut w, mut m, mut v, g) = (*w, 0.0, 0.0, round(0.7 * g));
        let mut terms = w.abs();
        for count in 1..=3 {
            w = round(w * (1.0 - 0.01 * 0.1));
            m = round(round(0.9 * m) + round(0.1 * g));
            v = round(round(0.999 * v) + round(0.001 * round(g * g)));
            let (unbiased_m, unbiased_v) =
                (round(m / (1.0 - 0.9f64.powi(count))), round(v / (1.0 - 0.999f64.powi(count))));
            let change = round(0.01 * round(unbiased_m / round(round(unbiased_v.sqrt()) + 1e-8)));
            w = store(round(w - change));
            terms += w.abs() + 10.0 * change.abs();
        }
        for (k, (value, terms)) in [(w, terms), (m, 4.0 * g.abs()), (v, 4.0 * g * g)].into_iter().enumerate()
        {
            out[0][k].push(value);
            out[1][k].push(terms);
        }
    }
    out
}

#[test]
fn f64_follows_the_formulas() {
    for n in COUNTS {
        let [expected, _] = plain([&numbers(1, n), &numbers(2, n)], |x| x, |x| x);
        for (got, expected) in run(DType::F64, 2, n).iter().zip(&expected) {
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-14 * (1.0 + b.abs())));
        }
    }
}

#[test]
fn f32_and_bf16_are_as_near_to_f64_as_the_plain_form() {
    for dtype in [DType::F32, DType::BF16] {
        for n in COUNTS {
            let inputs = [stored_numbers(dtype, 1, n), stored_numbers(DType::F32, 2, n)];
            let inputs = [&inputs[0][..], &inputs[1]];
            let [values, terms] = plain(inputs, |x| x, |x| x);
            let [plain, _] = plain(inputs, |x| f64::from(x as f32), |x| rounded(dtype, &[x])[0]);
            let stored = [dtype, DType::F32, DType::F32];
            let compared = run(dtype, 2, n).into_iter().zip(plain).zip(values.into_iter().zip(terms));
            for (((got, plain), (values, terms)), stored) in compared.zip(stored) {
                tolerance::hold("adamw", &got, &plain, &Exact { values, terms }, stored);
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for dtype in [DType::F32, DType::BF16] {
        let runs = [1, 2, 3].map(|threads| run(dtype, threads, 40_009).map(|values| bits(&values)));
        assert!(runs.iter().all(|run| *run == runs[0]));
    }
}

#[test]
fn a_master_copy_keeps_steps_too_small_for_the_weights() {
    let n = 33;
    let tiny = AdamW { lr: 1e-5, weight_decay: 0.0, ..settings(1) };
    let after = |with_master: bool| {
        let ones = vec![1.0; n];
        let g = tensor(DType::F32, &ones, dims![N: n]);
        let mut w = Output::holding(DType::BF16, &ones, dims![N: n]);
        let mut master = Output::holding(DType::F32, &ones, dims![N: n]);
        let [mut m, mut v] = [(); 2].map(|()| Output::holding(DType::F32, &vec![0.0; n], dims![N: n]));
        for step_of in 1..=1_000 {
            let master = with_master.then(|| master.view());
            let param = Param { w: w.view(), g: g.view(), m: m.view(), v: v.view(), scales: None, master };
            step(&stream(1), param, &AdamW { step: step_of, ..tiny }).unwrap();
        }
        [w.values(), master.values()]
    };
    let [w, master] = after(true);
    assert_eq!(w, rounded(DType::BF16, &master));
    assert!(master.iter().all(|x| (x - 0.99).abs() < 1e-4), "{master:?}");
    assert_eq!(after(false)[0], vec![1.0; n]);
}

/// w after one step of 0.001 down from 1, rounded by this key's numbers.
fn small_step(dtype: DType, threads: usize, key: Key, n: usize) -> Vec<f64> {
    let ones = vec![1.0; n];
    let g = tensor(DType::F32, &ones, dims![N: n]);
    let mut w = Output::holding(dtype, &ones, dims![N: n]);
    let [mut m, mut v] = [(); 2].map(|()| Output::holding(DType::F32, &vec![0.0; n], dims![N: n]));
    let param = Param { w: w.view(), g: g.view(), m: m.view(), v: v.view(), scales: None, master: None };
    let settings = AdamW { lr: 0.001, weight_decay: 0.0, rounding: Rounding::Stochastic(key), ..settings(1) };
    step(&stream(threads), param, &settings).unwrap();
    w.values()
}

#[test]
fn stochastic_rounding_keeps_small_steps_in_the_mean() {
    let (n, below) = (40_009, 1.0 - 2f64.powi(-8));
    let w = small_step(DType::BF16, 2, Key::of_request(1, 2, 3, 4), n);
    assert!(w.iter().all(|w| [1.0, below].contains(w)));
    let mean = w.iter().sum::<f64>() / n as f64;
    // Five standard deviations of the mean of such coins.
    assert!((mean - 0.999).abs() < 5e-5, "{mean}");
}

#[test]
fn stochastic_rounding_depends_on_the_key_and_the_element_alone() {
    let key = |step| Key::of_request(1, step, 3, 4);
    let runs = [1, 2, 3].map(|threads| small_step(DType::BF16, threads, key(2), 40_009));
    assert!(runs.iter().all(|run| *run == runs[0]));
    assert_eq!(small_step(DType::BF16, 1, key(2), 997), runs[0][..997]);
    assert_ne!(small_step(DType::BF16, 1, key(3), 40_009), runs[0]);
}

#[test]
fn weights_as_wide_as_the_sums_are_not_rounded_stochastically() {
    let w = small_step(DType::F32, 1, Key::of_request(1, 2, 3, 4), 33);
    assert!(w.iter().all(|w| (w - 0.999).abs() < 1e-7));
}

#[test]
fn a_gradient_of_another_size_or_a_zeroth_step_is_refused() {
    let [mut w, mut m, mut v] = [(); 3].map(|()| Output::new(DType::F32, dims![N: 4]));
    let (short, fitting) =
        (tensor(DType::F32, &[0.0; 3], dims![N: 3]), tensor(DType::F32, &[0.0; 4], dims![N: 4]));
    for (g, count) in [(&short, 1), (&fitting, 0)] {
        let param = Param { w: w.view(), g: g.view(), m: m.view(), v: v.view(), scales: None, master: None };
        assert!(step(&stream(1), param, &settings(count)).is_err());
    }
}

#[test]
fn the_square_sum_is_the_same_bits_on_every_thread_count() {
    for n in [1, 7, 8, 9, 65_536, 65_537, 300_007] {
        for dtype in [DType::F32, DType::F64] {
            let values = stored_numbers(dtype, 3, n);
            let g = tensor(dtype, &values, dims![N: n]);
            let sums = [1, 2, 3].map(|threads| square_sum(&stream(threads), g.view()).unwrap());
            assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()));
            let plain: f64 = values.iter().map(|x| x * x).sum();
            assert!((sums[0] - plain).abs() <= 1e-12 * plain, "{n}: {} for {plain}", sums[0]);
        }
    }
}

#[test]
fn one_element_that_is_not_finite_shows_in_the_square_sum() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for at in [0, 8, 70_000, 70_008] {
            let mut values = numbers(4, 70_009);
            values[at] = bad;
            let g = tensor(DType::F32, &values, dims![N: 70_009]);
            assert!(!square_sum(&stream(2), g.view()).unwrap().is_finite());
        }
    }
}

/// How the kernels keep weights.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kept {
    Wide,
    Nearest,
    Stochastic,
    Master,
}

/// w, m, v and the master copy after two steps where `stream` runs.
fn two_steps(stream: &Stream, kept: Kept, n: usize) -> [Vec<u64>; 4] {
    let dtype = if kept == Kept::Wide { DType::F32 } else { DType::BF16 };
    let on = |dtype, seed| Output::on(stream, dtype, &stored_numbers(dtype, seed, n), dims![N: n]);
    let g = tensor_on(stream, DType::F32, &stored_numbers(DType::F32, 2, n), dims![N: n]);
    let (mut w, mut m, mut master) = (on(dtype, 1), on(DType::F32, 3), on(DType::F32, 5));
    let squares: Vec<f64> = stored_numbers(DType::F32, 4, n).iter().map(|x| x.abs()).collect();
    let mut v = Output::on(stream, DType::F32, &squares, dims![N: n]);
    for count in 1..=2 {
        let rounding = match kept {
            Kept::Stochastic => Rounding::Stochastic(Key::of_request(7, count, 0, 1)),
            _ => Rounding::Nearest,
        };
        let master = (kept == Kept::Master).then(|| master.view());
        let param = Param { w: w.view(), g: g.view(), m: m.view(), v: v.view(), scales: None, master };
        step(stream, param, &AdamW { rounding, ..settings(count) }).unwrap();
    }
    [w, m, v, master].map(|output| bits(&output.values()))
}

#[test]
fn the_kernels_give_the_hosts_bits_for_any_number_of_elements() {
    for kept in [Kept::Wide, Kept::Nearest, Kept::Stochastic, Kept::Master] {
        for n in [1, 7, 8, 31, 33, 997, 4_100] {
            let host = two_steps(&stream(1), kept, n);
            for schedule in SCHEDULES {
                assert_eq!(two_steps(&on_cpu::stream(schedule), kept, n), host, "{kept:?} {n}");
            }
        }
    }
}

#[test]
fn the_square_sum_of_the_kernels_is_exact_to_f64_and_the_same_bits_in_every_schedule() {
    for dtype in [DType::F32, DType::BF16] {
        let streams = SCHEDULES.map(on_cpu::stream);
        // From the largest to the smallest: what a launch leaves in the scratch memory must not reach the next.
        for n in [200_007, 65_537, 65_536, 997, 9, 8, 7, 1] {
            let values = stored_numbers(dtype, 3, n);
            let sums = streams.each_ref().map(|stream| {
                let g = tensor_on(stream, dtype, &values, dims![N: n]);
                square_sum(stream, g.view()).unwrap()
            });
            assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()));
            let plain: f64 = values.iter().map(|x| x * x).sum();
            assert!((sums[0] - plain).abs() <= 1e-12 * plain, "{n}: {} for {plain}", sums[0]);
        }
    }
}

#[test]
fn the_kernels_square_sum_shows_one_element_that_is_not_finite() {
    let stream = on_cpu::stream(0);
    for bad in [f64::NAN, f64::INFINITY] {
        for at in [0, 70_000, 70_008] {
            let mut values = numbers(4, 70_009);
            values[at] = bad;
            let g = tensor_on(&stream, DType::F32, &values, dims![N: 70_009]);
            assert!(!square_sum(&stream, g.view()).unwrap().is_finite());
        }
    }
}

/// Sums of tensors of many sizes, one of them empty, together and each for itself.
fn sums_of_many(stream: &Stream) -> [Vec<u64>; 2] {
    let sizes =
        [65_537, 0, 9, 200_007, 1, 65_536].into_iter().zip([DType::F32, DType::BF16].into_iter().cycle());
    let tensor = |(n, dtype)| tensor_on(stream, dtype, &stored_numbers(dtype, 3, n), dims![N: n]);
    let tensors: Vec<_> = sizes.map(tensor).collect();
    let views: Vec<_> = tensors.iter().map(|tensor| tensor.view()).collect();
    let each: Vec<f64> = views.iter().map(|view| square_sum(stream, *view).unwrap()).collect();
    let before = on_cpu::downloads();
    let together = square_sums(stream, &views).unwrap();
    assert!(on_cpu::downloads() <= before + 1, "the host waits once");
    [bits(&each), bits(&together)]
}

#[test]
fn sums_of_many_tensors_are_those_of_each_and_are_waited_for_once() {
    for stream in [stream(2), on_cpu::stream(0), on_cpu::stream(1)] {
        let [each, together] = sums_of_many(&stream);
        assert_eq!(each, together);
        assert_eq!((together.len(), together[1]), (6, 0));
        assert!(square_sums(&stream, &[]).unwrap().is_empty());
    }
}
