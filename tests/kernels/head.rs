use patarm::device::{Device, DeviceChoice, Float};
use patarm::dims;
use patarm::ops::head::{self, Coefficients, HeadGradient, HeadInput, Logprobs, Lse, Scratch};
use patarm::ops::{Leaves, OpError};
use patarm::tensor::{Arena, DType, Element, Tensor};
use patarm::with_float;

use super::differences::{self, weighted};
use super::tensors::{Output, bits, numbers, rounded, stored_numbers, stream, tensor};
use super::tolerance::{self, Exact};

/// (targets, hidden, vocabulary, bounds of the leaves). 2,048 ids are one tile of the softmax.
type Case = (usize, usize, usize, &'static [usize]);
const CASES: [Case; 6] = [
    (1, 1, 1, &[0, 1]),
    (1, 31, 33, &[0, 0, 1]),
    (33, 7, 31, &[0, 5, 33]),
    (5, 33, 2_053, &[0, 2, 2, 5]),
    (3, 16, 2_048, &[0, 3]),
    (7, 5, 4_133, &[0, 3, 7]),
];
const INV_TEMPERATURE: f64 = 1.0 / 0.7;

/// Numbers of one case, rounded to the dtype they are stored in.
struct Inputs {
    x: Vec<f64>,
    w: Vec<f64>,
    targets: Vec<u32>,
    dlogprob: Vec<f64>,
    dentropy: Vec<f64>,
    old_dw: Vec<f64>,
}

impl Inputs {
    fn new(dtype: DType, (n, c, v, _): Case) -> Self {
        let sum = dtype.accumulator();
        let w: Vec<f64> = numbers(2, v * c).iter().map(|w| 3.0 * w).collect();
        let mut dlogprob = stored_numbers(sum, 3, n);
        let mut dentropy = stored_numbers(sum, 4, n);
        if n > 2 {
            (dlogprob[1], dentropy[1], dentropy[2]) = (0.0, 0.0, 0.0);
        }
        Self {
            x: stored_numbers(dtype, 1, n * c),
            w: rounded(dtype, &w),
            targets: (0..n).map(|i| (i * 7919 % v) as u32).collect(),
            dlogprob,
            dentropy,
            old_dw: stored_numbers(sum, 5, v * c),
        }
    }

    /// Those of some rows, with another old dw.
    fn part(&self, rows: std::ops::Range<usize>, c: usize, old_dw: Vec<f64>) -> Self {
        Self {
            x: self.x[rows.start * c..rows.end * c].to_vec(),
            w: self.w.clone(),
            targets: self.targets[rows.clone()].to_vec(),
            dlogprob: self.dlogprob[rows.clone()].to_vec(),
            dentropy: self.dentropy[rows].to_vec(),
            old_dw,
        }
    }
}

/// How a run is cut: threads, and rows of the scratch.
type Cut = (usize, usize);

fn with_input<R>(
    dtype: DType,
    inputs: &Inputs,
    (n, c, v, _): Case,
    rows: usize,
    run: impl FnOnce(HeadInput<'_>, &mut Scratch) -> R,
) -> R {
    let (x, w) = (tensor(dtype, &inputs.x, dims![N: n, C: c]), tensor(dtype, &inputs.w, dims![V: v, C: c]));
    let targets = Tensor::from_ids(&inputs.targets, dims![N: n]);
    let mut plan = Arena::planned("plan");
    Scratch::new(&mut plan, dtype, rows, v).expect("a plan is never full");
    let device = Device::open(DeviceChoice::Cpu, 1).unwrap();
    let mut arena = Arena::new("scratch", &device, plan.peak());
    let mut scratch = Scratch::new(&mut arena, dtype, rows, v).expect("as planned");
    let input =
        HeadInput { x: x.view(), w: w.view(), targets: targets.view(), inv_temperature: INV_TEMPERATURE };
    run(input, &mut scratch)
}

/// Log-probability, LSE and entropy.
fn token_logprob(dtype: DType, (threads, rows): Cut, inputs: &Inputs, case: Case) -> [Vec<f64>; 3] {
    with_input(dtype, inputs, case, rows, |input, scratch| {
        let mut out = [(); 3].map(|()| Output::new(dtype.accumulator(), dims![N: case.0]));
        let [logprob, lse, entropy] = &mut out;
        let views = Logprobs { logprob: logprob.view(), lse: lse.view(), entropy: entropy.view() };
        head::token_logprob(&stream(threads), input, scratch, views).unwrap();
        out.map(|output| output.values())
    })
}

/// dx, dw, and where `fresh` log-probability, LSE and entropy.
fn gradient(dtype: DType, (threads, rows): Cut, inputs: &Inputs, case: Case, fresh: bool) -> [Vec<f64>; 5] {
    let ((n, c, v, bounds), sum) = (case, dtype.accumulator());
    let [_, lse, entropy] = token_logprob(dtype, (1, rows), inputs, case);
    let [lse, entropy, dlogprob, dentropy] =
        [&lse, &entropy, &inputs.dlogprob, &inputs.dentropy].map(|values| tensor(sum, values, dims![N: n]));
    let mut dx = Output::new(dtype, dims![N: n, C: c]);
    let mut dw = Output::holding(sum, &inputs.old_dw, dims![V: v, C: c]);
    let mut out = [(); 3].map(|()| Output::new(sum, dims![N: n]));
    with_input(dtype, inputs, case, rows, |input, scratch| {
        let [a, b, d] = &mut out;
        let lse = match fresh {
            true => Lse::Fresh(Logprobs { logprob: a.view(), lse: b.view(), entropy: d.view() }),
            false => Lse::Stored { lse: lse.view(), entropy: entropy.view() },
        };
        let coefficients = Coefficients { dlogprob: dlogprob.view(), dentropy: Some(dentropy.view()) };
        let leaves = Leaves::new(bounds.to_vec());
        let views = HeadGradient { dx: dx.view(), dw: Some(dw.view()) };
        head::gradient(&stream(threads), input, coefficients, lse, (&leaves, scratch), views).unwrap();
    });
    let [logprob, lse, entropy] = out.map(|output| output.values());
    [dx.values(), dw.values(), logprob, lse, entropy]
}

/// Straight from the formulas: log-probability, LSE, entropy, dx, dw; then the sums of the magnitudes of what they add up.
/// The scores' gradient is rounded to `T`, as the operator hands it to the products.
fn plain<F: Float, T: Element<Acc = F>>(inputs: &Inputs, (n, c, v, _): Case) -> [[Vec<f64>; 5]; 2] {
    let cast = |values: &[f64]| values.iter().map(|x| F::from_f64(*x)).collect::<Vec<F>>();
    let [x, w, a, b, mut dw] =
        [&inputs.x, &inputs.w, &inputs.dlogprob, &inputs.dentropy, &inputs.old_dw].map(|v| cast(v));
    let inv_temperature = F::from_f64(INV_TEMPERATURE);
    let mut dw_terms: Vec<F> = dw.iter().map(|x| x.abs()).collect();
    let [mut logprob, mut lses, mut entropies, mut dx] = [const { Vec::new() }; 4];
    let (mut own_terms, mut dx_terms) = (Vec::new(), Vec::new());
    for i in 0..n {
        let row = &x[i * c..][..c];
        let sum = |j: usize, f: fn(F) -> F| {
            row.iter().zip(&w[j * c..][..c]).map(|(x, w)| f(*x * *w)).sum::<F>() * inv_temperature
        };
        let z: Vec<F> = (0..v).map(|j| sum(j, |t| t)).collect();
        let size: Vec<F> = (0..v).map(|j| sum(j, F::abs)).collect();
        let max = z.iter().fold(F::NEG_INFINITY, |m, z| m.max(*z));
        let lse = max + z.iter().map(|z| (*z - max).exp()).sum::<F>().ln();
        let p: Vec<F> = z.iter().map(|z| (*z - lse).exp()).collect();
        let entropy = -p.iter().zip(&z).map(|(p, z)| *p * (*z - lse)).sum::<F>();
        let target = inputs.targets[i] as usize;
        logprob.push(z[target] - lse);
        lses.push(lse);
        entropies.push(entropy);
        let spread = p.iter().zip(&size).map(|(p, s)| *p * *s).sum::<F>() + lse.abs() + F::ONE;
        own_terms.push([size[target] + spread, spread, spread * (F::ONE + entropy.abs())]);
        let dz = |j: usize| {
            let hot = if j == target { F::ONE } else { F::ZERO };
            let dz = (a[i] * (hot - p[j]) - b[i] * p[j] * (z[j] - lse + entropy)) * inv_temperature;
            (
                T::store(dz).load(),
                (a[i].abs() * (hot + p[j] * (F::ONE + size[j])) + b[i].abs() * p[j] * (spread + size[j]))
                    * inv_temperature,
            )
        };
        let (mut dx_row, mut dx_row_terms) = (vec![F::ZERO; c], vec![F::ZERO; c]);
        for j in 0..v {
            let (dz, size) = dz(j);
            for k in 0..c {
                dx_row[k] += dz * w[j * c + k];
                dx_row_terms[k] += size * w[j * c + k].abs();
                dw[j * c + k] += dz * row[k];
                dw_terms[j * c + k] += size * row[k].abs();
            }
        }
        dx.extend(dx_row);
        dx_terms.extend(dx_row_terms);
    }
    let own = |k: usize| own_terms.iter().map(|terms| terms[k]).collect::<Vec<F>>();
    let values = [logprob, lses, entropies, dx, dw];
    [values, [own(0), own(1), own(2), dx_terms, dw_terms]]
        .map(|five| five.map(|values| values.into_iter().map(F::to_f64).collect()))
}

fn all(dtype: DType, cut: Cut, inputs: &Inputs, case: Case) -> [Vec<f64>; 5] {
    let [dx, dw, logprob, lse, entropy] = gradient(dtype, cut, inputs, case, true);
    [logprob, lse, entropy, dx, dw]
}

#[test]
fn the_f64_body_follows_the_formulas() {
    for case in CASES {
        let inputs = Inputs::new(DType::F64, case);
        let [expected, terms] = plain::<f64, f64>(&inputs, case);
        for ((got, expected), terms) in
            all(DType::F64, (2, 2), &inputs, case).iter().zip(&expected).zip(terms)
        {
            let near = |((a, b), terms): ((&f64, &f64), &f64)| (a - b).abs() <= 1e-13 * (1.0 + terms);
            assert!(got.iter().zip(expected).zip(&terms).all(near), "{case:?}");
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_log_probability_and_entropy() {
    for case in CASES {
        let mut inputs = Inputs::new(DType::F64, case);
        inputs.old_dw.fill(0.0);
        let loss = |x: &[f64], w: &[f64]| {
            let moved = Inputs { x: x.to_vec(), w: w.to_vec(), ..inputs.part(0..case.0, case.1, vec![]) };
            let [logprob, _, entropy] = token_logprob(DType::F64, (1, 64), &moved, case);
            weighted(&logprob, &inputs.dlogprob) + weighted(&entropy, &inputs.dentropy)
        };
        let [dx, dw, ..] = gradient(DType::F64, (2, 3), &inputs, case, false);
        differences::hold("x", &inputs.x, &dx, |x| loss(x, &inputs.w));
        differences::hold("w", &inputs.w, &dw, |w| loss(&inputs.x, w));
    }
}

#[test]
fn f32_and_bf16_are_as_near_to_f64_as_the_plain_form() {
    for dtype in [DType::F32, DType::BF16] {
        for case in CASES {
            let inputs = Inputs::new(dtype, case);
            let [plain, _] = with_float!(dtype, T => plain::<<T as Element>::Acc, T>(&inputs, case));
            let [values, terms] = self::plain::<f64, f64>(&inputs, case);
            let stored = [DType::F32, DType::F32, DType::F32, dtype, DType::F32];
            let compared = all(dtype, (2, 512), &inputs, case).into_iter().zip(plain);
            for (((got, plain), stored), (values, terms)) in
                compared.zip(stored).zip(values.into_iter().zip(terms))
            {
                tolerance::hold("head", &got, &rounded(stored, &plain), &Exact { values, terms }, stored);
            }
        }
    }
}

#[test]
fn a_rows_numbers_are_the_same_bits_in_every_function_tile_and_thread() {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        for case in CASES {
            let inputs = Inputs::new(dtype, case);
            let expected = token_logprob(dtype, (1, 1), &inputs, case).map(|values| bits(&values));
            for cut in [(1, 512), (2, 2), (3, 3)] {
                let [dx, dw, fresh @ ..] = gradient(dtype, cut, &inputs, case, true);
                assert_eq!(fresh.map(|values| bits(&values)), expected, "{dtype:?} {case:?} {cut:?}");
                let [stored_dx, stored_dw, ..] = gradient(dtype, cut, &inputs, case, false);
                assert_eq!([bits(&dx), bits(&dw)], [bits(&stored_dx), bits(&stored_dw)]);
            }
        }
    }
}

#[test]
fn neither_tiles_of_whole_sums_nor_resident_leaves_change_a_gradient() {
    let (n, c, v) = (1_300, 3, 37);
    let case: Case = (n, c, v, &[0, 600, 700, 1_300]);
    for dtype in [DType::F32, DType::BF16] {
        let inputs = Inputs::new(dtype, case);
        let whole = [(1, 512), (2, 512), (2, 1024)].map(|cut| gradient(dtype, cut, &inputs, case, false));
        for other in &whole[1..] {
            assert_eq!([bits(&whole[0][0]), bits(&whole[0][1])], [bits(&other[0]), bits(&other[1])]);
        }
        let (mut dx, mut dw) = (Vec::new(), inputs.old_dw.clone());
        for (rows, bounds) in [(0..700, &[0usize, 600, 700] as &'static [usize]), (700..1_300, &[0, 600])] {
            let part = inputs.part(rows.clone(), c, dw);
            let [part_dx, part_dw, ..] = gradient(dtype, (2, 512), &part, (rows.len(), c, v, bounds), false);
            dx.extend(part_dx);
            dw = part_dw;
        }
        assert_eq!([bits(&dx), bits(&dw)], [bits(&whole[0][0]), bits(&whole[0][1])]);
    }
}

#[test]
fn logits_are_the_scores_that_training_sees() {
    for dtype in [DType::F32, DType::BF16] {
        for case in CASES {
            let ((n, _, v, _), inputs) = (case, Inputs::new(dtype, case));
            let [logprob, lse, _] = token_logprob(dtype, (2, 3), &inputs, case);
            let mut out = Output::new(dtype.accumulator(), dims![B: n, V: v]);
            with_input(dtype, &inputs, case, 1, |input, _| {
                head::logits(&stream(2), input.x, input.w, INV_TEMPERATURE, out.view()).unwrap();
            });
            let z = out.values();
            for i in 0..n {
                let of_target = z[i * v + inputs.targets[i] as usize];
                assert_eq!((of_target as f32 - lse[i] as f32).to_bits(), (logprob[i] as f32).to_bits());
            }
        }
    }
}

#[test]
fn a_score_that_is_not_finite_is_seen_in_the_entropy() {
    let case = CASES[3];
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut inputs = Inputs::new(DType::F32, case);
        inputs.w[2_050 * case.1] = bad;
        let [.., entropy] = token_logprob(DType::F32, (1, 2), &inputs, case);
        assert!(entropy.iter().all(|x| x.is_nan()), "{bad}: {entropy:?}");
    }
}

#[test]
fn a_target_outside_the_vocabulary_is_refused() {
    let case = CASES[2];
    let mut inputs = Inputs::new(DType::F32, case);
    inputs.targets[30] = 31;
    let error = with_input(DType::F32, &inputs, case, 4, |input, scratch| {
        let mut out = [(); 3].map(|()| Output::new(DType::F32, dims![N: case.0]));
        let [logprob, lse, entropy] = &mut out;
        let views = Logprobs { logprob: logprob.view(), lse: lse.view(), entropy: entropy.view() };
        head::token_logprob(&stream(1), input, scratch, views)
    });
    assert!(
        matches!(&error, Err(e @ OpError::Argument { .. }) if e.to_string().contains("31 at row 30")),
        "{error:?}"
    );
}
