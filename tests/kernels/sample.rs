use patarm::device::Stream;
use patarm::dims;
use patarm::ops::head::{self};
use patarm::ops::philox::Key;
use patarm::ops::sample::{Choice, Draw, Drawn, Truncation, forward};
use patarm::tensor::DType;

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{ids_on, numbers, stream, tensor, tensor_on};
use super::tolerance::{self, Exact};

fn key(sample: u32) -> Key {
    Key::of_request(17, 3, 5, sample)
}

fn draw(position: u32, choice: Choice, vocabulary: usize) -> Draw {
    Draw { key: key(position % 7), position, choice, vocabulary: vocabulary as u32 }
}

/// Scores of `rows` rows, spread as a language model's are.
fn scores(rows: usize, v: usize) -> Vec<f64> {
    numbers(9, rows * v).iter().map(|x| f64::from((6.0 * x * x * x.signum()) as f32)).collect()
}

fn sample(threads: usize, dtype: DType, z: &[f64], draws: &[Draw]) -> Vec<Drawn> {
    sample_on(&stream(threads), dtype, z, draws)
}

fn sample_on(stream: &Stream, dtype: DType, z: &[f64], draws: &[Draw]) -> Vec<Drawn> {
    let v = z.len() / draws.len();
    let logits = tensor_on(stream, dtype, z, dims![B: draws.len(), V: v]);
    let mut out = vec![Drawn::default(); draws.len()];
    forward(stream, logits.view(), draws, &mut out).unwrap();
    out
}

/// ids by descending score, lower ids first among equals.
fn sorted(z: &[f64]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..z.len()).collect();
    ids.sort_by(|a, b| z[*b].total_cmp(&z[*a]).then(a.cmp(b)));
    ids
}

/// The kept ids, by sorting everything and summing probabilities one after the other.
fn plain_kept(z: &[f64], truncation: Truncation) -> Vec<usize> {
    let mut ids = sorted(z);
    if truncation.top_k > 0 {
        ids.truncate(truncation.top_k as usize);
    }
    let p: Vec<f64> = ids.iter().map(|id| (z[*id] - z[ids[0]]).exp()).collect();
    let total: f64 = p.iter().sum();
    let mut mass = 0.0;
    let mut count = 0;
    while count < ids.len() && (truncation.top_p >= 1.0 || mass < f64::from(truncation.top_p) * total) {
        mass += p[count];
        count += 1;
    }
    ids.truncate(count);
    let likeliest = z[ids[0]];
    ids.retain(|id| (z[*id] - likeliest).exp() >= f64::from(truncation.min_p));
    ids
}

/// The largest z + g, every logarithm taken.
fn plain_token(z: &[f64], kept: &[usize], draw: &Draw) -> u32 {
    let score = |id: usize| {
        let u = (f64::from(draw.key.word(draw.position, id as u32)) + 0.5) / 4_294_967_296.0;
        z[id] - (-u.ln()).ln()
    };
    *kept.iter().max_by(|a, b| score(**a).total_cmp(&score(**b))).unwrap() as u32
}

const TRUNCATIONS: [Truncation; 8] = [
    Truncation::NONE,
    Truncation { top_k: 1, ..Truncation::NONE },
    Truncation { top_k: 20, ..Truncation::NONE },
    Truncation { top_p: 0.9, ..Truncation::NONE },
    Truncation { top_p: 0.999_999, ..Truncation::NONE },
    Truncation { min_p: 0.1, ..Truncation::NONE },
    Truncation { top_k: 20, top_p: 0.8, min_p: 0.05 },
    Truncation { top_k: 100_000, top_p: 0.5, min_p: 1.0 },
];

#[test]
fn tokens_are_the_winners_of_the_plain_race_among_the_kept() {
    for v in [1, 2, 31, 33, 997, 4_133] {
        for truncation in TRUNCATIONS {
            let draws: Vec<Draw> = (0..40).map(|i| draw(i, Choice::Gumbel(truncation), v)).collect();
            let flat = scores(draws.len(), v);
            let steep: Vec<f64> = flat.iter().map(|z| 8.0 * z).collect();
            for (dtype, z) in [(DType::F32, &flat), (DType::F32, &steep), (DType::F64, &flat)] {
                let drawn = sample(2, dtype, z, &draws);
                for ((z, draw), drawn) in z.chunks(v).zip(&draws).zip(drawn) {
                    let expected = plain_token(z, &plain_kept(z, truncation), draw);
                    assert_eq!(drawn.token, expected, "{dtype:?} {v} {truncation:?}");
                }
            }
        }
    }
}

#[test]
fn kernels_draw_the_winners_of_the_plain_race_among_the_kept() {
    for (schedule, v) in SCHEDULES.iter().flat_map(|schedule| [8, 32, 1_000, 4_136].map(|v| (schedule, v))) {
        let draws: Vec<Draw> = (0..16)
            .map(|i| Draw {
                vocabulary: (v - i as usize % 3) as u32,
                ..draw(i, Choice::Gumbel(TRUNCATIONS[i as usize % 8]), v)
            })
            .collect();
        let flat = scores(draws.len(), v);
        let ties: Vec<f64> = flat.iter().map(|z| (2.0 * z).round() / 2.0).collect();
        for z in [&flat, &ties] {
            let drawn = sample_on(&on_cpu::stream(*schedule), DType::F32, z, &draws);
            for ((z, draw), drawn) in z.chunks(v).zip(&draws).zip(drawn) {
                let Choice::Gumbel(truncation) = draw.choice else { unreachable!("all draws are random") };
                let allowed = &z[..draw.vocabulary as usize];
                assert_eq!(
                    drawn.token,
                    plain_token(z, &plain_kept(allowed, truncation), draw),
                    "{v} {truncation:?}"
                );
            }
        }
    }
}

#[test]
fn a_kernels_numbers_are_as_near_to_f64_as_the_hosts_and_depend_on_their_row_alone() {
    for v in [8, 1_000, 4_136] {
        let mut draws: Vec<Draw> =
            (0..5).map(|i| draw(i, Choice::Gumbel(TRUNCATIONS[i as usize]), v)).collect();
        draws.extend([draw(5, Choice::Greedy, v), draw(6, Choice::Forced(7), v)]);
        let z = scores(draws.len(), v);
        let [host, exact] = [DType::F32, DType::F64].map(|dtype| sample(1, dtype, &z, &draws));
        let got = sample_on(&on_cpu::stream(0), DType::F32, &z, &draws);
        let tokens = |drawn: &[Drawn]| drawn.iter().map(|drawn| drawn.token).collect::<Vec<_>>();
        assert_eq!(tokens(&got), tokens(&exact));
        for column in [|d: &Drawn| d.logprob, |d: &Drawn| d.lse, |d: &Drawn| d.entropy] {
            let [host, exact, got] = [&host, &exact, &got].map(|d| d.iter().map(column).collect::<Vec<_>>());
            let terms = exact
                .iter()
                .zip(z.chunks(v))
                .map(|(x, z)| x.abs() + z.iter().fold(1.0, |m, z| z.abs().max(m)));
            let exact = Exact { terms: terms.collect(), values: exact };
            tolerance::hold("sample", &got, &host, &exact, DType::F32);
        }
        for (i, z) in z.chunks(v).enumerate() {
            assert_eq!(sample_on(&on_cpu::stream(2), DType::F32, z, &draws[i..=i]), got[i..=i]);
        }
    }
}

#[test]
fn ids_that_reach_the_mass_exactly_are_enough() {
    let half = Truncation { top_p: 0.5, ..Truncation::NONE };
    let draws: Vec<Draw> = (0..32).map(|i| draw(i, Choice::Gumbel(half), 8)).collect();
    for stream in [stream(1), on_cpu::stream(0)] {
        let drawn = sample_on(&stream, DType::F32, &[1.5; 8 * 32], &draws);
        assert!(drawn.iter().all(|drawn| drawn.token < 4), "{drawn:?}");
    }
}

/// Scores of so many ids: a device draws what the host does.
fn hold_to_the_host(draws: &[Draw], v: usize) {
    let z = scores(draws.len(), v);
    let tokens = |drawn: Vec<Drawn>| drawn.iter().map(|drawn| drawn.token).collect::<Vec<_>>();
    assert_eq!(
        tokens(sample_on(&on_cpu::stream(1), DType::F32, &z, draws)),
        tokens(sample(1, DType::F32, &z, draws))
    );
}

/// Two rounds of a block's loads, the second a short one.
#[test]
fn kernels_truncate_rows_longer_than_a_block_loads_at_once() {
    let v = 16_904;
    let draws: Vec<Draw> = (0..8).map(|i| draw(i, Choice::Gumbel(TRUNCATIONS[i as usize]), v)).collect();
    hold_to_the_host(&draws, v);
}

#[test]
fn a_kernel_races_only_the_spans_that_can_win_and_finds_the_winner_of_a_whole_vocabulary() {
    let v = 151_936;
    let draws: Vec<Draw> = (0..2).map(|i| draw(i, Choice::Gumbel(Truncation::NONE), v)).collect();
    hold_to_the_host(&draws, v);
}

/// A row may be longer than the ids that its draw may take: the first of those behind has by far the highest score.
#[test]
fn an_id_behind_the_last_that_may_be_drawn_never_wins() {
    let (v, last) = (24, 9);
    let z: Vec<f64> = (0..4 * v).map(|i| if i % v == last { 90.0 } else { (i % 7) as f64 }).collect();
    for choice in [Choice::Greedy, Choice::Gumbel(Truncation::NONE)] {
        let draws: Vec<Draw> = (0..4).map(|i| draw(i, choice, last)).collect();
        for stream in [stream(1), on_cpu::stream(0)] {
            let drawn = sample_on(&stream, DType::F32, &z, &draws);
            assert!(drawn.iter().all(|drawn| (drawn.token as usize) < last), "{choice:?}: {drawn:?}");
        }
    }
}

#[test]
fn a_token_does_not_depend_on_its_batch_or_threads() {
    let v = 1_001;
    let draws: Vec<Draw> = (0..12).map(|i| draw(i, Choice::Gumbel(TRUNCATIONS[i as usize % 8]), v)).collect();
    let z = scores(draws.len(), v);
    let together = sample(3, DType::F32, &z, &draws);
    for (i, z) in z.chunks(v).enumerate() {
        assert_eq!(sample(1, DType::F32, z, &draws[i..=i]), together[i..=i]);
    }
}

#[test]
fn every_part_of_the_key_and_the_position_can_change_the_token() {
    let (v, z) = (997, scores(1, 997));
    let token = |key: Key, position| {
        let draw = Draw { key, position, choice: Choice::Gumbel(Truncation::NONE), vocabulary: v };
        sample(1, DType::F32, &z, &[draw])[0].token
    };
    let by = |f: &dyn Fn(u32) -> u32| (0..30).map(f).collect::<std::collections::BTreeSet<_>>().len();
    assert!(by(&|i| token(Key::of_request(u64::from(i), 0, 0, 0), 0)) > 5);
    assert!(by(&|i| token(Key::of_request(0, u64::from(i), 0, 0), 0)) > 5);
    assert!(by(&|i| token(Key::of_request(0, 0, i, 0), 0)) > 5);
    assert!(by(&|i| token(Key::of_request(0, 0, 0, i), 0)) > 5);
    assert!(by(&|i| token(Key::of_request(0, 0, 0, 0), i)) > 5);
}

#[test]
fn tokens_come_as_often_as_their_probability_says() {
    let (v, count) = (9, 40_000);
    let row: Vec<f64> = numbers(4, v).iter().map(|x| f64::from((2.0 * x) as f32)).collect();
    let draws: Vec<Draw> = (0..count).map(|i| draw(i, Choice::Gumbel(Truncation::NONE), v)).collect();
    let drawn = sample(2, DType::F32, &row.repeat(count as usize), &draws);
    let mut chi_square = 0.0;
    for (id, z) in row.iter().enumerate() {
        let seen = drawn.iter().filter(|drawn| drawn.token == id as u32).count() as f64;
        let expected = f64::from(count) * (z - drawn[0].lse).exp();
        chi_square += (seen - expected).powi(2) / expected;
    }
    // 99.9 % of the chi-square distribution with 8 degrees of freedom.
    assert!(chi_square < 26.12, "{chi_square}");
}

#[test]
fn the_stored_numbers_are_the_policys_over_all_rows_whatever_is_drawn() {
    let v = 2_053;
    let z = scores(TRUNCATIONS.len() + 1, v);
    let mut draws: Vec<Draw> =
        TRUNCATIONS.iter().map(|t| Draw { vocabulary: 100, ..draw(4, Choice::Gumbel(*t), v) }).collect();
    draws.push(Draw { vocabulary: 100, ..draw(4, Choice::Greedy, v) });
    for (z, drawn) in z.chunks(v).zip(sample(2, DType::F64, &z, &draws)) {
        let lse = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        let entropy = -z.iter().map(|z| (z - lse).exp() * (z - lse)).sum::<f64>();
        assert!(drawn.token < 100, "a padding row was drawn");
        assert!((drawn.lse - lse).abs() < 1e-12 && (drawn.entropy - entropy).abs() < 1e-11);
        assert!((drawn.logprob - (z[drawn.token as usize] - lse)).abs() < 1e-12);
    }
}

#[test]
fn greedy_takes_the_lowest_id_of_the_largest_score() {
    let z = [1.0, 3.0, -2.0, 3.0, 2.0];
    let greedy = sample(1, DType::F32, &z, &[draw(0, Choice::Greedy, 5)])[0];
    assert_eq!(greedy.token, 1);
    let of_equals = Truncation { top_k: 1, ..Truncation::NONE };
    assert_eq!(sample(1, DType::F32, &z, &[draw(0, Choice::Gumbel(of_equals), 5)])[0].token, 1);
}

#[test]
fn a_kernel_takes_the_lowest_id_of_equal_scores_in_whatever_spans_they_stand() {
    let v = 4_136;
    let level = vec![1.5; v];
    let two: Vec<f64> = (0..v).map(|id| if id == 1_700 || id == 3_300 { 1.5 } else { -0.5 }).collect();
    let first = Choice::Gumbel(Truncation { top_k: 1, ..Truncation::NONE });
    let draws = [Choice::Greedy, first, Choice::Greedy, first].map(|choice| draw(0, choice, v));
    for schedule in SCHEDULES {
        let z = [&level[..], &level, &two, &two].concat();
        let drawn = sample_on(&on_cpu::stream(schedule), DType::F32, &z, &draws);
        assert_eq!([0, 1, 2, 3].map(|row| drawn[row].token), [0, 0, 1_700, 1_700]);
    }
}

/// Whether drawing and training say the same of a row, to the bit.
fn hold_training_to_sampling(stream: &Stream, dtype: DType, [c, v]: [usize; 2]) {
    let b = 5;
    let [x, w] = [(1, dims![B: b, C: c]), (2, dims![V: v, C: c])]
        .map(|(seed, dims)| tensor_on(stream, dtype, &numbers(seed, dims.count()), dims));
    let inv_temperature = head::inverse_temperature(0.8);
    let mut z = tensor_on(stream, DType::F32, &vec![0.0; b * v], dims![B: b, V: v]);
    head::logits(stream, x.view(), w.view(), inv_temperature, z.view_mut()).unwrap();
    let draws: Vec<Draw> = (0..5).map(|i| draw(i, Choice::Gumbel(TRUNCATIONS[i as usize]), v)).collect();
    let mut drawn = vec![Drawn::default(); b];
    forward(stream, z.view(), &draws, &mut drawn).unwrap();

    let ids: Vec<u32> = drawn.iter().map(|drawn| drawn.token).collect();
    let targets = ids_on(stream, &ids);
    let input = head::HeadInput { x: x.view(), w: w.view(), targets: targets.view(), inv_temperature };
    let mut arena = patarm::tensor::Arena::new("scratch", stream.device(), 1 << 20);
    let mut scratch = head::Scratch::new(&mut arena, dtype, 3, v).unwrap();
    let mut out = [(); 3].map(|()| tensor_on(stream, DType::F32, &[0.0; 5], dims![N: b]));
    let [logprob, lse, entropy] = out.each_mut().map(|tensor| tensor.view_mut());
    head::token_logprob(stream, input, &mut scratch, head::Logprobs { logprob, lse, entropy }).unwrap();
    let columns = out.map(|tensor| tensor.view().read().unwrap());
    for (i, drawn) in drawn.iter().enumerate() {
        let trained = columns.each_ref().map(|column| column[i].to_bits());
        assert_eq!([drawn.logprob, drawn.lse, drawn.entropy].map(f64::to_bits), trained);
    }
}

#[test]
fn sampled_log_probabilities_are_the_bits_of_training() {
    for dtype in [DType::F32, DType::BF16] {
        hold_training_to_sampling(&stream(2), dtype, [33, 4_133]);
    }
    for schedule in SCHEDULES {
        hold_training_to_sampling(&on_cpu::stream(schedule), DType::BF16, [40, 4_136]);
    }
}

#[test]
fn an_empty_vocabulary_is_refused() {
    let logits = tensor(DType::F32, &[0.0; 4], dims![B: 1, V: 4]);
    for vocabulary in [0, 5] {
        let draws = [draw(0, Choice::Greedy, vocabulary)];
        assert!(forward(&stream(1), logits.view(), &draws, &mut [Drawn::default()]).is_err());
    }
}
