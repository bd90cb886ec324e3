use patarm::device::{Float, Stream};
use patarm::dims;
use patarm::ops::head::{self, Coefficients, HeadGradient, HeadInput, Logprobs, Lse, Scratch};
use patarm::ops::{Leaves, OpError};
use patarm::tensor::{Arena, DType, Element};
use patarm::with_float;

use super::differences::{self, weighted};
use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, ids_on, numbers, rounded, stored_numbers, stream, tensor_on};
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
/// Those of whole pieces of 16 bytes: leaves of more than one tile of tokens, ids of more than one leaf of a product, and hidden
/// rows of more than one.
const CUDA_CASES: [Case; 5] = [
    (1, 8, 8, &[0, 1]),
    (33, 24, 40, &[0, 5, 5, 33]),
    (5, 40, 2_056, &[0, 2, 2, 5]),
    (131, 16, 648, &[0, 130, 131]),
    (7, 1_032, 136, &[0, 3, 7]),
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

/// Where a run is, and how it is cut: rows of the scratch.
struct Cut {
    stream: Stream,
    rows: usize,
}

fn cut(threads: usize, rows: usize) -> Cut {
    Cut { stream: stream(threads), rows }
}

fn with_input<R>(
    dtype: DType,
    inputs: &Inputs,
    (n, c, v, _): Case,
    Cut { stream, rows }: &Cut,
    run: impl FnOnce(HeadInput<'_>, &mut Scratch) -> R,
) -> R {
    let x = tensor_on(stream, dtype, &inputs.x, dims![N: n, C: c]);
    let w = tensor_on(stream, dtype, &inputs.w, dims![V: v, C: c]);
    let targets = ids_on(stream, &inputs.targets);
    let mut plan = Arena::planned("plan");
    Scratch::new(&mut plan, dtype, *rows, v).expect("a plan is never full");
    let mut arena = Arena::new("scratch", stream.device(), plan.peak());
    let mut scratch = Scratch::new(&mut arena, dtype, *rows, v).expect("as planned");
    let input =
        HeadInput { x: x.view(), w: w.view(), targets: targets.view(), inv_temperature: INV_TEMPERATURE };
    run(input, &mut scratch)
}

/// Three columns to write to.
fn columns(cut: &Cut, dtype: DType, n: usize) -> [Output; 3] {
    [(); 3].map(|()| Output::unknown_on(&cut.stream, dtype.accumulator(), dims![N: n]))
}

/// Log-probability, LSE and entropy.
fn token_logprob(dtype: DType, cut: &Cut, inputs: &Inputs, case: Case) -> [Vec<f64>; 3] {
    with_input(dtype, inputs, case, cut, |input, scratch| {
        let mut out = columns(cut, dtype, case.0);
        let [logprob, lse, entropy] = &mut out;
        let views = Logprobs { logprob: logprob.view(), lse: lse.view(), entropy: entropy.view() };
        head::token_logprob(&cut.stream, input, scratch, views).unwrap();
        out.map(|output| output.values())
    })
}

/// dx, dw, and where `fresh` log-probability, LSE and entropy.
fn gradient(dtype: DType, cut: &Cut, inputs: &Inputs, case: Case, fresh: bool) -> [Vec<f64>; 5] {
    let ((n, c, v, bounds), sum) = (case, dtype.accumulator());
    let [_, lse, entropy] = token_logprob(dtype, cut, inputs, case);
    let [lse, entropy, dlogprob, dentropy] = [&lse, &entropy, &inputs.dlogprob, &inputs.dentropy]
        .map(|values| tensor_on(&cut.stream, sum, values, dims![N: n]));
    let mut dx = Output::unknown_on(&cut.stream, dtype, dims![N: n, C: c]);
    let mut dw = Output::on(&cut.stream, sum, &inputs.old_dw, dims![V: v, C: c]);
    let mut out = columns(cut, dtype, n);
    with_input(dtype, inputs, case, cut, |input, scratch| {
        let [a, b, d] = &mut out;
        let lse = match fresh {
            true => Lse::Fresh(Logprobs { logprob: a.view(), lse: b.view(), entropy: d.view() }),
            false => Lse::Stored { lse: lse.view(), entropy: entropy.view() },
        };
        let coefficients = Coefficients { dlogprob: dlogprob.view(), dentropy: Some(dentropy.view()) };
        let leaves = Leaves::new(bounds.to_vec());
        let views = HeadGradient { dx: dx.view(), dw: Some(dw.view()) };
        head::gradient(&cut.stream, input, coefficients, lse, (&leaves, scratch), views).unwrap();
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

fn all(dtype: DType, cut: &Cut, inputs: &Inputs, case: Case) -> [Vec<f64>; 5] {
    let [dx, dw, logprob, lse, entropy] = gradient(dtype, cut, inputs, case, true);
    [logprob, lse, entropy, dx, dw]
}

#[test]
fn the_f64_body_follows_the_formulas() {
    for case in CASES {
        let inputs = Inputs::new(DType::F64, case);
        let [expected, terms] = plain::<f64, f64>(&inputs, case);
        for ((got, expected), terms) in
            all(DType::F64, &cut(2, 2), &inputs, case).iter().zip(&expected).zip(terms)
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
            let [logprob, _, entropy] = token_logprob(DType::F64, &cut(1, 64), &moved, case);
            weighted(&logprob, &inputs.dlogprob) + weighted(&entropy, &inputs.dentropy)
        };
        let [dx, dw, ..] = gradient(DType::F64, &cut(2, 3), &inputs, case, false);
        differences::hold("x", &inputs.x, &dx, |x| loss(x, &inputs.w));
        differences::hold("w", &inputs.w, &dw, |w| loss(&inputs.x, w));
    }
}

/// Every result of a case within the tolerance rule, whose plain form is the same wherever the case runs.
fn hold(dtype: DType, cut: &Cut, case: Case) {
    let inputs = Inputs::new(dtype, case);
    let [plain, _] = with_float!(dtype, T => plain::<<T as Element>::Acc, T>(&inputs, case));
    let [values, terms] = self::plain::<f64, f64>(&inputs, case);
    let stored = [DType::F32, DType::F32, DType::F32, dtype, DType::F32];
    let compared = all(dtype, cut, &inputs, case).into_iter().zip(plain);
    for (((got, plain), stored), (values, terms)) in compared.zip(stored).zip(values.into_iter().zip(terms)) {
        tolerance::hold("head", &got, &rounded(stored, &plain), &Exact { values, terms }, stored);
    }
}

#[test]
fn f32_and_bf16_are_as_near_to_f64_as_the_plain_form() {
    for dtype in [DType::F32, DType::BF16] {
        CASES.iter().for_each(|case| hold(dtype, &cut(2, 512), *case));
    }
}

#[test]
fn kernels_are_as_near_to_f64_as_the_plain_form() {
    let orders = |capability| SCHEDULES.map(|schedule| (capability, schedule));
    for (capability, schedule) in super::product::CAPABILITIES.into_iter().flat_map(orders) {
        for (case, rows) in CUDA_CASES.into_iter().zip([512, 512, 64, 100, 40]) {
            hold(DType::BF16, &Cut { stream: on_cpu::stream_of(schedule, capability), rows }, case);
        }
    }
}

#[test]
fn neither_neighbours_nor_resident_leaves_change_a_bit_of_a_kernels_results() {
    super::product::CAPABILITIES.into_iter().for_each(|capability| {
        let (n, c, v, bounds) = (133, 24, 2_056, &[0, 60, 61, 133]);
        let inputs = Inputs::new(DType::BF16, (n, c, v, bounds));
        let run = |inputs: &Inputs, case: Case, fresh| {
            let cut = Cut { stream: on_cpu::stream_of(1, capability), rows: 80 };
            gradient(DType::BF16, &cut, inputs, case, fresh).map(|values| bits(&values))
        };
        let whole = run(&inputs, (n, c, v, bounds), true);
        let [dx, dw, ..] = run(&inputs, (n, c, v, bounds), false);
        assert_eq!([&dx, &dw], [&whole[0], &whole[1]], "a stored LSE is not the fresh one");
        let (mut dw, mut rest) = (inputs.old_dw.clone(), [const { Vec::new() }; 4]);
        for (rows, bounds) in [(0..61, &[0usize, 60, 61] as &'static [usize]), (61..133, &[0, 72])] {
            let part = inputs.part(rows.clone(), c, dw);
            let [part_dx, part_dw, columns @ ..] = run(&part, (rows.len(), c, v, bounds), true);
            dw = part_dw.into_iter().map(f64::from_bits).collect();
            rest[0].extend(part_dx);
            rest[1..].iter_mut().zip(columns).for_each(|(all, part)| all.extend(part));
        }
        let [dx, columns @ ..] = rest;
        assert_eq!([&dx, &bits(&dw)], [&whole[0], &whole[1]]);
        assert_eq!(columns, whole[2..]);
    });
}

#[test]
fn a_rows_numbers_are_the_same_bits_in_every_function_tile_and_thread() {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        for case in CASES {
            let inputs = Inputs::new(dtype, case);
            let expected = token_logprob(dtype, &cut(1, 1), &inputs, case).map(|values| bits(&values));
            for (threads, rows) in [(1, 512), (2, 2), (3, 3)] {
                let cut = cut(threads, rows);
                let [dx, dw, fresh @ ..] = gradient(dtype, &cut, &inputs, case, true);
                assert_eq!(fresh.map(|values| bits(&values)), expected, "{dtype:?} {case:?} {rows}");
                let [stored_dx, stored_dw, ..] = gradient(dtype, &cut, &inputs, case, false);
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
        let whole = [(1, 512), (2, 512), (2, 1024)]
            .map(|(threads, rows)| gradient(dtype, &cut(threads, rows), &inputs, case, false));
        for other in &whole[1..] {
            assert_eq!([bits(&whole[0][0]), bits(&whole[0][1])], [bits(&other[0]), bits(&other[1])]);
        }
        let (mut dx, mut dw) = (Vec::new(), inputs.old_dw.clone());
        for (rows, bounds) in [(0..700, &[0usize, 600, 700] as &'static [usize]), (700..1_300, &[0, 600])] {
            let part = inputs.part(rows.clone(), c, dw);
            let [part_dx, part_dw, ..] =
                gradient(dtype, &cut(2, 512), &part, (rows.len(), c, v, bounds), false);
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
            let [logprob, lse, _] = token_logprob(dtype, &cut(2, 3), &inputs, case);
            let mut out = Output::new(dtype.accumulator(), dims![B: n, V: v]);
            with_input(dtype, &inputs, case, &cut(1, 1), |input, _| {
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
fn few_tokens_and_many_have_the_scores_that_training_sees() {
    let case: Case = (131, 1_096, 648, &[0, 131]);
    let ((n, c, v, _), inputs) = (case, Inputs::new(DType::BF16, case));
    for capability in super::product::CAPABILITIES {
        let cut = Cut { stream: on_cpu::stream_of(1, capability), rows: 200 };
        let [logprob, lse, _] = token_logprob(DType::BF16, &cut, &inputs, case);
        let scores = |tokens: usize| {
            let mut out = Output::unknown_on(&cut.stream, DType::F32, dims![B: tokens, V: v]);
            let part = inputs.part(0..tokens, c, Vec::new());
            with_input(DType::BF16, &part, (tokens, c, v, &[]), &cut, |input, _| {
                head::logits(&cut.stream, input.x, input.w, INV_TEMPERATURE, out.view()).unwrap();
            });
            out.values()
        };
        let all = scores(n);
        for tokens in [1, 16, 17, 64, 65] {
            assert!(bits(&scores(tokens)) == bits(&all[..tokens * v]), "{tokens} tokens, {capability:?}");
        }
        let of_targets = inputs.targets.iter().enumerate().map(|(i, target)| all[i * v + *target as usize]);
        let known = of_targets.zip(&lse).map(|(z, lse)| f64::from(z as f32 - *lse as f32));
        assert_eq!(bits(&known.collect::<Vec<_>>()), bits(&logprob));
    }
}

#[test]
fn a_score_that_is_not_finite_is_seen_in_the_entropy() {
    let case = CASES[3];
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut inputs = Inputs::new(DType::F32, case);
        inputs.w[2_050 * case.1] = bad;
        let [.., entropy] = token_logprob(DType::F32, &cut(1, 2), &inputs, case);
        assert!(entropy.iter().all(|x| x.is_nan()), "{bad}: {entropy:?}");
    }
}

#[test]
fn a_target_outside_the_vocabulary_is_refused() {
    let case = CASES[2];
    let mut inputs = Inputs::new(DType::F32, case);
    inputs.targets[30] = 31;
    let error = with_input(DType::F32, &inputs, case, &cut(1, 4), |input, scratch| {
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
