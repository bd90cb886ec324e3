use patarm::dims;
use patarm::ops::OpError;
use patarm::ops::grpo_loss::{GrpoLoss, LossGradient, LossSums, PolicyTokens, forward_backward};
use patarm::tensor::DType;

use super::differences;
use super::tensors::{Output, bits, numbers, rounded, stored_numbers, stream, tensor};
use super::tolerance::{self, Exact};

const SETTINGS: GrpoLoss = GrpoLoss { clip_low: 0.2, clip_high: 0.28, kl: 0.1, entropy: 0.02 };

/// logprob, behaviour, reference, entropy, advantage, weight, kl_weight, entropy_weight.
type Columns = [Vec<f64>; 8];

fn columns(dtype: DType, n: usize) -> Columns {
    let column = |seed| stored_numbers(dtype, seed, n);
    let near = |seed: u64, scale: f64| -> Vec<f64> {
        let moved: Vec<f64> =
            column(1).iter().zip(numbers(seed, n)).map(|(x, d)| x - 2.0 + scale * d).collect();
        rounded(dtype, &moved)
    };
    let mut weight: Vec<f64> = column(8).iter().map(|w| w.abs()).collect();
    if n > 2 {
        weight[1] = 0.0;
    }
    [near(2, 0.0), near(3, 0.5), near(4, 1.0), column(5), column(6), weight.clone(), column(7), weight]
}

fn run(dtype: DType, all: &Columns, old: LossSums) -> (LossSums, [Vec<f64>; 2]) {
    let dims = dims![N: all[0].len()];
    let tensors = all.each_ref().map(|values| tensor(dtype, values, dims));
    let [logprob, behaviour, reference, entropy, advantage, weight, kl_weight, entropy_weight] =
        tensors.each_ref().map(|tensor| tensor.view());
    let reference = Some(reference);
    let tokens =
        PolicyTokens { logprob, behaviour, reference, entropy, advantage, weight, kl_weight, entropy_weight };
    let (mut dlogprob, mut dentropy, mut sums) = (Output::new(dtype, dims), Output::new(dtype, dims), old);
    let out = LossGradient { dlogprob: dlogprob.view(), dentropy: dentropy.view() };
    forward_backward(&stream(2), tokens, &SETTINGS, out, &mut sums).unwrap();
    (sums, [dlogprob.values(), dentropy.values()])
}

/// dL/dlogp and dL/dH from the formulas in another arrangement, with the magnitudes of their terms.
fn plain(all: &Columns, round: impl Fn(f64) -> f64) -> [[Vec<f64>; 2]; 2] {
    let [logprob, behaviour, reference, _, advantage, weight, kl_weight, entropy_weight] = all;
    let mut out = [const { [const { Vec::new() }; 2] }; 2];
    for i in 0..logprob.len() {
        let ratio = round(round(logprob[i] - behaviour[i]).exp());
        let is_clipped = if advantage[i] > 0.0 { ratio > 1.28 } else { ratio < 0.8 };
        let policy = if is_clipped { 0.0 } else { -round(round(weight[i] * ratio) * advantage[i]) };
        let share = round(round(reference[i] - logprob[i]).exp());
        let kl = round(round(0.1 * kl_weight[i]) * round(1.0 - share));
        out[0][0].push(round(policy + kl));
        out[0][1].push(round(-0.02 * entropy_weight[i]));
        let gap = (logprob[i].abs() + behaviour[i].abs() + reference[i].abs()) + 1.0;
        out[1][0].push(
            gap * ((weight[i] * ratio * advantage[i]).abs() + (0.1 * kl_weight[i] * (1.0 + share)).abs()),
        );
        out[1][1].push((0.02 * entropy_weight[i]).abs());
    }
    out
}

#[test]
fn coefficients_are_the_slopes_of_the_loss() {
    for n in [1, 31, 33, 97] {
        let all = columns(DType::F64, n);
        let (sums, [dlogprob, dentropy]) = run(DType::F64, &all, LossSums::default());
        assert!(n < 31 || (sums.clipped_low > 0 && sums.clipped_high > 0), "no token is clipped");
        for (column, gradient) in [(0, &dlogprob), (3, &dentropy)] {
            differences::hold("loss", &all[column], gradient, |moved| {
                let mut all = all.clone();
                all[column] = moved.to_vec();
                run(DType::F64, &all, LossSums::default()).0.loss
            });
        }
    }
}

#[test]
fn f32_is_as_near_to_f64_as_the_plain_form() {
    for n in [1, 33, 997] {
        let all = columns(DType::F32, n);
        let (_, got) = run(DType::F32, &all, LossSums::default());
        let [values, terms] = plain(&all, |x| x);
        let [plain, _] = plain(&all, |x| f64::from(x as f32));
        for (((got, plain), values), terms) in got.iter().zip(plain).zip(values).zip(terms) {
            tolerance::hold("grpo_loss", got, &plain, &Exact { values, terms }, DType::F32);
        }
    }
}

#[test]
fn sums_do_not_depend_on_where_a_batch_is_split() {
    let all = columns(DType::F32, 97);
    let (whole, [dlogprob, _]) = run(DType::F32, &all, LossSums::default());
    for cut in [0, 1, 50, 97] {
        let [front, back] = [0..cut, cut..97].map(|rows| all.each_ref().map(|c| c[rows.clone()].to_vec()));
        let (sums, [first, _]) = run(DType::F32, &front, LossSums::default());
        let (sums, [second, _]) = run(DType::F32, &back, sums);
        assert_eq!(sums, whole);
        assert_eq!(bits(&[first, second].concat()), bits(&dlogprob));
    }
}

#[test]
fn an_on_policy_step_has_ratio_one_and_no_gap() {
    let mut all = columns(DType::F32, 33);
    all[1] = all[0].clone();
    let (sums, _) = run(DType::F32, &all, LossSums::default());
    assert_eq!([sums.ratio, sums.largest_gap], [sums.tokens as f64, 0.0]);
    assert_eq!((sums.tokens, sums.clipped_low, sums.clipped_high), (32, 0, 0));
}

#[test]
fn a_missing_reference_is_an_error_not_a_zero() {
    let column = tensor(DType::F32, &[0.5], dims![N: 1]);
    let view = column.view();
    let tokens = PolicyTokens {
        logprob: view,
        behaviour: view,
        reference: None,
        entropy: view,
        advantage: view,
        weight: view,
        kl_weight: view,
        entropy_weight: view,
    };
    let [mut a, mut b] = [(); 2].map(|()| Output::new(DType::F32, dims![N: 1]));
    let out = LossGradient { dlogprob: a.view(), dentropy: b.view() };
    let refused = forward_backward(&stream(1), tokens, &SETTINGS, out, &mut LossSums::default());
    assert!(matches!(refused, Err(OpError::Argument { .. })));
}
