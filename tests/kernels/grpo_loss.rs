use patarm::device::Stream;
use patarm::dims;
use patarm::ops::OpError;
use patarm::ops::grpo_loss::{GrpoLoss, Kl, LossGradient, LossSums, PolicyTokens, Ratio, forward_backward};
use patarm::tensor::{DType, Tensor};

use super::differences;
use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, ids_on, numbers, rounded, stored_numbers, stream, tensor, tensor_on};
use super::tolerance::{self, Exact};

const TOKEN: GrpoLoss = GrpoLoss {
    ratio: Ratio::Token,
    clip_low: 0.2,
    clip_high: 0.28,
    dual_clip: None,
    kl: 0.1,
    kl_form: Kl::K3,
    entropy: 0.02,
};

/// One of every variant; where ratios are of sequences, they are nearer to 1.
const VARIANTS: [GrpoLoss; 4] = [
    TOKEN,
    GrpoLoss { dual_clip: Some(1.4), kl_form: Kl::K2, ..TOKEN },
    GrpoLoss { ratio: Ratio::Sequence, clip_low: 0.05, clip_high: 0.05, ..TOKEN },
    GrpoLoss { ratio: Ratio::Sequence, clip_low: 0.05, clip_high: 0.05, dual_clip: Some(1.1), ..TOKEN },
];

/// Targets of each sequence but the last, which may have fewer.
const LENGTH: usize = 7;

/// logprob, behaviour, reference, entropy, advantage, weight, kl_weight, entropy_weight.
type Columns = [Vec<f64>; 8];

fn columns(dtype: DType, n: usize) -> Columns {
    let column = |seed| stored_numbers(dtype, seed, n);
    let near = |seed: u64, scale: f64| -> Vec<f64> {
        let moved: Vec<f64> =
            column(1).iter().zip(numbers(seed, n)).map(|(x, d)| x - 2.0 + scale * d).collect();
        rounded(dtype, &moved)
    };
    let of_sequence =
        |values: Vec<f64>| -> Vec<f64> { (0..n).map(|i| values[i / LENGTH * LENGTH]).collect() };
    let mut weight = of_sequence(column(8).iter().map(|w| w.abs()).collect());
    if n > 2 * LENGTH {
        weight[..LENGTH].fill(0.0);
        weight[LENGTH + 2] = 0.0;
    }
    let advantage = of_sequence(column(6));
    [near(2, 0.0), near(3, 0.5), near(4, 1.0), column(5), advantage, weight.clone(), column(7), weight]
}

/// Sequence `first` and the following ones.
fn sequences(stream: &Stream, first: usize, n: usize) -> Tensor {
    let ids: Vec<u32> = (0..n).map(|i| (first + i / LENGTH) as u32).collect();
    ids_on(stream, &ids)
}

fn run(dtype: DType, all: &Columns, settings: &GrpoLoss, old: LossSums) -> (LossSums, [Vec<f64>; 2]) {
    run_on(&stream(2), dtype, all, settings, old)
}

fn run_on(
    stream: &Stream,
    dtype: DType,
    all: &Columns,
    settings: &GrpoLoss,
    old: LossSums,
) -> (LossSums, [Vec<f64>; 2]) {
    let dims = dims![N: all[0].len()];
    let tensors = all.each_ref().map(|values| tensor_on(stream, dtype, values, dims));
    let [logprob, behaviour, reference, entropy, advantage, weight, kl_weight, entropy_weight] =
        tensors.each_ref().map(|tensor| tensor.view());
    let (reference, sequences) = (Some(reference), sequences(stream, 3, all[0].len()));
    let sequence = sequences.view();
    let tokens = PolicyTokens {
        logprob,
        behaviour,
        reference,
        entropy,
        advantage,
        sequence,
        weight,
        kl_weight,
        entropy_weight,
    };
    let [mut dlogprob, mut dentropy] = [(); 2].map(|()| Output::unknown_on(stream, dtype, dims));
    let (out, mut sums) = (LossGradient { dlogprob: dlogprob.view(), dentropy: dentropy.view() }, old);
    forward_backward(stream, tokens, settings, out, &mut sums).unwrap();
    (sums, [dlogprob.values(), dentropy.values()])
}

/// Each target's ratio in another arrangement, and the magnitude of what its logarithm is the sum of.
fn plain_ratio(all: &Columns, i: usize, ratio: Ratio, round: &impl Fn(f64) -> f64) -> (f64, f64) {
    let [logprob, behaviour, _, _, _, weight, ..] = all;
    let run = match ratio {
        Ratio::Token => i..i + 1,
        Ratio::Sequence => {
            let first = i / LENGTH * LENGTH;
            first..(first + LENGTH).min(logprob.len())
        }
    };
    let run: Vec<usize> = run.filter(|&i| weight[i] != 0.0).collect();
    let (mut sum, mut magnitude, count) = (0.0, 0.0, run.len().max(1) as f64);
    for i in run {
        sum = round(sum + round(logprob[i] - behaviour[i]));
        magnitude += (logprob[i].abs() + behaviour[i].abs()) / count;
    }
    (round(round(sum / count).exp()), magnitude)
}

/// dL/dlogp and dL/dH from the formulas in another arrangement, with the magnitudes of their terms.
fn plain(all: &Columns, settings: &GrpoLoss, round: impl Fn(f64) -> f64) -> [[Vec<f64>; 2]; 2] {
    let [logprob, _, reference, _, advantage, weight, kl_weight, entropy_weight] = all;
    let mut out = [const { [const { Vec::new() }; 2] }; 2];
    for i in 0..logprob.len() {
        let (ratio, magnitude) = plain_ratio(all, i, settings.ratio, &round);
        let is_clipped = if advantage[i] > 0.0 {
            ratio > 1.0 + settings.clip_high
        } else {
            ratio < 1.0 - settings.clip_low || settings.dual_clip.is_some_and(|bound| ratio > bound)
        };
        let policy = if is_clipped { 0.0 } else { -round(round(weight[i] * ratio) * advantage[i]) };
        let d = round(reference[i] - logprob[i]);
        let slope = if settings.kl_form == Kl::K2 { -d } else { round(1.0 - round(d.exp())) };
        let kl = round(round(0.1 * kl_weight[i]) * slope);
        out[0][0].push(round(policy + kl));
        out[0][1].push(round(-0.02 * entropy_weight[i]));
        let gap = magnitude + logprob[i].abs() + reference[i].abs() + 1.0;
        out[1][0].push(
            gap * ((weight[i] * ratio * advantage[i]).abs() + (0.1 * kl_weight[i] * (1.0 + d.exp())).abs()),
        );
        out[1][1].push((0.02 * entropy_weight[i]).abs());
    }
    out
}

#[test]
fn coefficients_are_the_slopes_of_the_loss() {
    for (settings, n) in VARIANTS.iter().flat_map(|settings| [1, 31, 33, 97].map(|n| (settings, n))) {
        let all = columns(DType::F64, n);
        let (sums, [dlogprob, dentropy]) = run(DType::F64, &all, settings, LossSums::default());
        assert!(n < 97 || (sums.clipped_low > 0 && sums.clipped_high > 0), "no token is clipped: {sums:?}");
        assert!(n < 97 || (sums.clipped_dual > 0) == settings.dual_clip.is_some(), "{sums:?}");
        for (column, gradient) in [(0, &dlogprob), (3, &dentropy)] {
            differences::hold("loss", &all[column], gradient, |moved| {
                let mut all = all.clone();
                all[column] = moved.to_vec();
                run(DType::F64, &all, settings, LossSums::default()).0.loss
            });
        }
    }
}

/// Both coefficients within the tolerance rule.
fn hold(got: &[Vec<f64>; 2], all: &Columns, settings: &GrpoLoss) {
    let [values, terms] = plain(all, settings, |x| x);
    let [plain, _] = plain(all, settings, |x| f64::from(x as f32));
    for (((got, plain), values), terms) in got.iter().zip(plain).zip(values).zip(terms) {
        tolerance::hold("grpo_loss", got, &plain, &Exact { values, terms }, DType::F32);
    }
}

#[test]
fn f32_is_as_near_to_f64_as_the_plain_form() {
    for (settings, n) in VARIANTS.iter().flat_map(|settings| [1, 33, 997].map(|n| (settings, n))) {
        let all = columns(DType::F32, n);
        hold(&run(DType::F32, &all, settings, LossSums::default()).1, &all, settings);
    }
}

/// What is added up, and what is counted.
fn sums(of: &LossSums) -> ([f64; 8], [u64; 4]) {
    let LossSums { loss, policy, kl, entropy, ratio, kl_estimate, token_entropy, largest_gap, .. } = *of;
    let counts = [of.tokens, of.clipped_low, of.clipped_high, of.clipped_dual];
    ([loss, policy, kl, entropy, ratio, kl_estimate, token_entropy, largest_gap], counts)
}

#[test]
fn the_kernel_is_as_near_to_f64_as_the_plain_form_and_sums_as_the_host_does() {
    for schedule in SCHEDULES {
        for (settings, n) in VARIANTS.iter().flat_map(|settings| [1, 33, 64, 997].map(|n| (settings, n))) {
            let all = columns(DType::F32, n);
            let stream = on_cpu::stream(schedule);
            let (got_sums, got) = run_on(&stream, DType::F32, &all, settings, LossSums::default());
            hold(&got, &all, settings);
            let (host, _) = run(DType::F32, &all, settings, LossSums::default());
            let ((got, counts), (host, expected)) = (sums(&got_sums), sums(&host));
            assert_eq!(counts, expected);
            // Every term is below 4 and rounded a few times in f32.
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 32.0 * n as f64 * 2f64.powi(-24);
            assert!(got.iter().zip(&host).all(near), "{got:?} for {host:?}");
        }
    }
}

#[test]
fn the_kernels_bits_do_not_depend_on_where_a_batch_is_split_between_sequences() {
    let all = columns(DType::F32, 97);
    let stream = on_cpu::stream(1);
    for settings in &VARIANTS {
        let (whole, [dlogprob, _]) = run_on(&stream, DType::F32, &all, settings, LossSums::default());
        for cut in [7, 49, 91] {
            let [front, back] =
                [0..cut, cut..97].map(|rows| all.each_ref().map(|c| c[rows.clone()].to_vec()));
            let (sums, [first, _]) = run_on(&stream, DType::F32, &front, settings, LossSums::default());
            let (sums, [second, _]) = run_on(&stream, DType::F32, &back, settings, sums);
            assert_eq!(sums, whole);
            assert_eq!(bits(&[first, second].concat()), bits(&dlogprob));
        }
    }
}

#[test]
fn sums_do_not_depend_on_where_a_batch_is_split() {
    let all = columns(DType::F32, 97);
    for settings in &VARIANTS {
        let (whole, [dlogprob, _]) = run(DType::F32, &all, settings, LossSums::default());
        for cut in [0, 7, 49, 97] {
            let [front, back] =
                [0..cut, cut..97].map(|rows| all.each_ref().map(|c| c[rows.clone()].to_vec()));
            let (sums, [first, _]) = run(DType::F32, &front, settings, LossSums::default());
            let (sums, [second, _]) = run(DType::F32, &back, settings, sums);
            assert_eq!(sums, whole);
            assert_eq!(bits(&[first, second].concat()), bits(&dlogprob));
        }
    }
}

#[test]
fn an_on_policy_step_has_ratio_one_and_no_gap() {
    let mut all = columns(DType::F32, 33);
    all[1] = all[0].clone();
    for settings in &VARIANTS {
        let (sums, _) = run(DType::F32, &all, settings, LossSums::default());
        assert_eq!([sums.ratio, sums.largest_gap], [sums.tokens as f64, 0.0]);
        assert_eq!([sums.tokens, sums.clipped_low, sums.clipped_high, sums.clipped_dual], [25, 0, 0, 0]);
    }
}

#[test]
fn neither_a_ratio_on_a_border_nor_an_advantage_of_zero_is_clipped() {
    let borders = GrpoLoss { clip_low: 0.0, clip_high: 0.0, dual_clip: Some(1.0), ..TOKEN };
    let mut on_policy = columns(DType::F32, 97);
    on_policy[1] = on_policy[0].clone();
    let mut indifferent = columns(DType::F32, 97);
    indifferent[4].fill(0.0);
    for (i, behaviour) in indifferent[1].iter_mut().enumerate() {
        *behaviour += if i % 2 == 0 { 2.0 } else { -2.0 };
    }
    for stream in [stream(2), on_cpu::stream(0)] {
        for (settings, all) in [(borders, &on_policy), (VARIANTS[1], &indifferent)] {
            let (sums, _) = run_on(&stream, DType::F32, all, &settings, LossSums::default());
            assert_eq!([sums.clipped_low, sums.clipped_high, sums.clipped_dual], [0; 3]);
        }
    }
}

#[test]
fn a_missing_reference_is_an_error_not_a_zero() {
    let column = tensor(DType::F32, &[0.5], dims![N: 1]);
    let (view, sequence) = (column.view(), sequences(&stream(1), 0, 1));
    let tokens = PolicyTokens {
        logprob: view,
        behaviour: view,
        reference: None,
        entropy: view,
        advantage: view,
        sequence: sequence.view(),
        weight: view,
        kl_weight: view,
        entropy_weight: view,
    };
    let [mut a, mut b] = [(); 2].map(|()| Output::new(DType::F32, dims![N: 1]));
    let out = LossGradient { dlogprob: a.view(), dentropy: b.view() };
    let refused = forward_backward(&stream(1), tokens, &TOKEN, out, &mut LossSums::default());
    assert!(matches!(refused, Err(OpError::Argument { .. })));
}
