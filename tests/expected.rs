//! Expected scores: what a tree of continuations gives in one pass, against every continuation run through the training forward
//! by itself.

use std::ops::ControlFlow;
use std::sync::Arc;

use patarm::device::{Device, DeviceChoice, Stream};
use patarm::evaluation::{Expected, Judge, Reading};
use patarm::grpo::{Example, pack_examples};
use patarm::ops::head;
use patarm::qwen3::{Config, Keep, Model};
use patarm::record::{Finish, Rollout, Sampling, SeedKey};
use patarm::rollout::{Branches, Engine, Limits, RolloutError, Sampler, TokenTree};
use patarm::rubric::{RubricSet, Score};
use patarm::tensor::{Arena, DType};
use patarm::tokenizer::{Specials, TokenId};
use patarm::trainer::{Pass, PassLimits, log_probabilities};
use patarm::{demo, with_float};

const LIMITS: Limits = Limits { tokens: 1200, sequences: 40, blocks: 4 };

fn stream() -> Stream {
    Stream::new(Device::open(DeviceChoice::Cpu, 2).expect("a CPU"))
}

/// Weights of two layers, larger than at the start of a training run: the same in every dtype, but for rounding.
fn model(stream: &Stream, dtype: DType, vocabulary: usize) -> Model {
    let shape = format!(
        r#"{{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
            "vocab_size": {vocabulary}, "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": false, "initializer_range": 0.15}}"#
    );
    let mut arena = Arena::new("model", stream.device(), 1 << 24);
    let config = Config::parse(&shape).expect("a shape");
    let mut exact = Model::new(config.clone(), DType::F32, 1024, &mut arena).expect("room");
    exact.initialise(stream, 11).expect("host");
    let mut model = Model::new(config, dtype, 1024, &mut arena).expect("room");
    for ((_, to), (_, from)) in model.params.iter_mut().zip(exact.params.iter()) {
        let values = from.view().to_f64();
        with_float!(to.dtype(), T => {
            let to = to.view_mut().host_mut::<T>();
            to.iter_mut().zip(values).for_each(|(to, x)| *to = patarm::tensor::Element::store(patarm::device::Float::from_f64(x)));
        });
    }
    model
}

/// Log-probabilities of every token of `completion` after `prompt`, by the forward that training runs.
fn forced(
    stream: &Stream,
    model: &Model,
    (prompt, completion): (&[TokenId], &[TokenId]),
    t: f32,
) -> Vec<f64> {
    let ids = |tokens: &[TokenId]| -> Vec<u32> { tokens.iter().map(|token| token.0).collect() };
    let (prompt, completion) = (ids(prompt), ids(completion));
    let example = Example { prompt: &prompt, completion: &completion };
    let batch = pack_examples(&[example], 1024).expect("fits");
    let limits = PassLimits { rows: 1024, targets: 1024, tile: 512, keep: Keep::Nothing };
    let mut arena = Arena::new("pass", stream.device(), 1 << 26);
    let mut pass = Pass::new(&model.config, model.dtype, limits, &mut arena).expect("room");
    log_probabilities(stream, model, &batch.leaves[0], head::inverse_temperature(t), &mut pass).expect("fits")
}

/// The same of each continuation, summed.
fn brute_force(
    stream: &Stream,
    model: &Model,
    before: &[TokenId],
    texts: &[Vec<TokenId>],
    t: f32,
) -> Vec<f64> {
    let sum = |text: &Vec<TokenId>| match text.is_empty() {
        true => 0.0,
        false => forced(stream, model, (before, text), t).iter().sum(),
    };
    texts.iter().map(sum).collect()
}

fn with_sampler<T>(
    stream: &Stream,
    model: &Model,
    limits: Limits,
    f: impl FnOnce(&mut Sampler<'_>) -> T,
) -> T {
    let mut arena = Arena::new("rollout", stream.device(), 1 << 26);
    let engine = Engine::new(&model.config, model.dtype, limits, &mut arena).expect("room");
    f(&mut Sampler { stream, model, weights_version: 0, engine })
}

fn go_on(_done: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn tokens(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().map(|id| TokenId(*id)).collect()
}

#[test]
fn every_continuation_in_a_tree_has_the_log_probability_that_it_has_alone_to_the_bit() {
    let texts: Vec<Vec<TokenId>> = [
        &[7, 1, 9, 9][..],
        &[7, 1, 9],
        &[3],
        &[7, 2, 5, 6, 6, 8],
        &[7, 2, 5, 6, 6, 4],
        &[],
        &[60, 61, 62, 63, 64],
        &[3],
    ]
    .map(tokens)
    .into();
    let tree = Arc::new(TokenTree::new(&texts));
    let prompts: [Arc<[TokenId]>; 2] =
        [257, 5].map(|length| (0..length).map(|i| TokenId((i * 31 % 97) as u32)).collect());
    let stems = [vec![], tokens(&[4]), (0..70).map(|i| TokenId(i * 5 % 97)).collect::<Vec<_>>()];
    let all: Vec<Branches> = prompts
        .iter()
        .flat_map(|prompt| {
            stems.iter().map(|stem| Branches {
                prompt: prompt.clone(),
                stem: stem.clone(),
                tree: tree.clone(),
            })
        })
        .collect();
    let stream = stream();
    for (dtype, temperature) in [(DType::F32, 1.0), (DType::F32, 0.7), (DType::BF16, 1.0), (DType::F64, 1.0)]
    {
        let model = model(&stream, dtype, 97);
        let alone: Vec<Vec<f64>> = all
            .iter()
            .map(|b| brute_force(&stream, &model, &[&b.prompt[..], &b.stem].concat(), &texts, temperature))
            .collect();
        for (tokens, sequences) in [(1200, 40), (345, 3)] {
            let limits = Limits { tokens, sequences, blocks: 4 };
            let together = with_sampler(&stream, &model, limits, |sampler| {
                sampler.log_probabilities(temperature, &all, &mut go_on).expect("fits")
            });
            assert_eq!(together, alone, "{dtype:?}, T {temperature}, {tokens} tokens a pass");
        }
    }
}

#[test]
fn branches_that_do_not_fit_are_refused_by_name() {
    let stream = stream();
    let model = model(&stream, DType::F32, 97);
    let branches = |length: u32, stem: usize| Branches {
        prompt: (0..length).map(TokenId).collect(),
        stem: vec![TokenId(1); stem],
        tree: Arc::new(TokenTree::new(&[tokens(&[1, 2, 3])])),
    };
    let limits = Limits { tokens: 64, ..LIMITS };
    let refused = |branches: Branches| {
        let all = [branches];
        let result =
            with_sampler(&stream, &model, limits, |sampler| sampler.log_probabilities(1.0, &all, &mut go_on));
        match result.expect_err("it does not fit") {
            RolloutError::Request { reason, .. } => reason,
            other => other.to_string(),
        }
    };
    assert!(refused(branches(0, 3)).contains("empty"));
    assert!(refused(branches(60, 3)).contains("65 tokens"), "{}", refused(branches(60, 3)));
    assert!(refused(branches(60, 1000)).contains("loaded for 1024"));
    let fits =
        with_sampler(&stream, &model, limits, |s| s.log_probabilities(1.0, &[branches(60, 2)], &mut go_on));
    assert!(fits.is_ok_and(|sums| sums.len() == 1 && sums[0].len() == 1));
    assert_eq!(
        with_sampler(&stream, &model, limits, |s| s.log_probabilities(1.0, &[], &mut go_on)).unwrap().len(),
        0
    );
}

#[test]
fn weighing_stops_between_passes_when_it_is_asked_to() {
    let stream = stream();
    let model = model(&stream, DType::F32, 97);
    let branches = Branches {
        prompt: (0..60).map(TokenId).collect(),
        stem: vec![TokenId(1); 10],
        tree: Arc::new(TokenTree::new(&[tokens(&[1, 2, 3])])),
    };
    let mut heard = Vec::new();
    let mut watch = |done| {
        heard.push(done);
        if done >= 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // The prompt is shared: 60 rows, then 12 for each.
    let limits = Limits { tokens: 60 + 2 * 12, ..LIMITS };
    let stopped = with_sampler(&stream, &model, limits, |sampler| {
        sampler.log_probabilities(1.0, &vec![branches; 7], &mut watch)
    });
    assert!(matches!(stopped, Err(RolloutError::Stopped)));
    assert_eq!(heard, [2, 4]);
}

#[test]
fn the_mean_is_over_what_could_be_said_and_the_mass_says_how_much_that_is() {
    let score = |value: f64| Score::new(value).expect("on the scale");
    let scores = [score(2.0), score(2.0), score(9.0)];
    let of = |probabilities: [f64; 3]| Expected::of(&scores, &probabilities.map(f64::ln)).expect("some mass");
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    let expected = of([0.1, 0.2, 0.1]);
    assert!(near(expected.score, (0.3 * 2.0 + 0.1 * 9.0) / 0.4) && near(expected.mass, 0.4));
    let tiny = of([1e-300, 0.0, 3e-300]);
    assert!(near(tiny.score, (2.0 + 27.0) / 4.0) && tiny.mass < 1e-299, "{tiny:?}");
    let far = Expected::of(&scores, &[-5000.0, -5001.0, -9000.0]).expect("logarithms do not underflow");
    assert_eq!((far.score, far.mass), (2.0, 0.0));
    assert_eq!(Expected::of(&scores, &[f64::NEG_INFINITY; 3]), None);
    assert_eq!(Expected::of(&scores, &[-1.0, f64::NAN, -1.0]), None);
    assert_eq!(Expected::mean(&[expected, tiny]), Some((expected.score + tiny.score) / 2.0));
    assert_eq!(Expected::mean(&[]), None);
}

const BEGUN: &str = "<rubric>a: b (1)</rubric><eval>a: c</eval><score>";

fn judge() -> Judge {
    Judge::new(RubricSet::builtin(), demo::tokenizer().expect("the demo's tokenizer"), 64)
}

/// A judgement as if it had been drawn.
fn rollout(judge: &Judge, prompt: &[TokenId], text: &str, finish: Finish) -> Rollout {
    let end = judge.tokenizer.eos().first().copied().filter(|_| finish == Finish::Stop);
    let completion: Vec<TokenId> =
        judge.tokenizer.encode(text).expect("plain text").into_iter().chain(end).collect();
    let zeros = vec![0.0; completion.len()];
    let (logprob, lse, entropy) = (zeros.clone(), zeros.clone(), zeros);
    let (sampling, seed) = (Sampling::default(), SeedKey::default());
    let (prompt, group, forced, weights_version) = (prompt.into(), 0, Vec::new(), 0);
    Rollout {
        prompt,
        group,
        completion,
        logprob,
        lse,
        entropy,
        forced,
        sampling,
        weights_version,
        seed,
        finish,
    }
}

fn readings(judge: &Judge, model: &Model, stream: &Stream, rollouts: &[Rollout]) -> Vec<Reading> {
    with_sampler(stream, model, LIMITS, |sampler| {
        judge.read_all(sampler, rollouts, &mut |_, _| ControlFlow::Continue(())).expect("fits")
    })
}

#[test]
fn expected_scores_agree_with_every_spelling_run_by_itself_and_with_double_precision() {
    let stream = stream();
    let judge = judge().expecting().expect("the tag stands alone");
    let vocabulary = judge.tokenizer.vocab_size();
    let prompt: Vec<TokenId> = (0..33).map(|i| TokenId(i * 17 % 300)).collect();
    let texts = [format!("{BEGUN}7.5</score>"), format!("{BEGUN}99</score>"), BEGUN.to_owned()];
    let rollouts: Vec<Rollout> =
        texts.iter().map(|text| rollout(&judge, &prompt, text, Finish::Stop)).collect();
    let begun = judge.tokenizer.encode(BEGUN).expect("plain text");
    let before = [&prompt[..], &begun].concat();
    let spelt: Vec<(Vec<TokenId>, Score)> = Score::spellings()
        .map(|(text, score)| (judge.tokenizer.encode(&format!("{text}</score>")).expect("plain text"), score))
        .collect();
    assert_eq!(spelt.len(), 101);
    let (texts, scores): (Vec<_>, Vec<_>) = spelt.into_iter().unzip();
    let by = |dtype| {
        let model = model(&stream, dtype, vocabulary);
        let logprobs = brute_force(&stream, &model, &before, &texts, 1.0);
        let weights: Vec<f64> = logprobs.iter().map(|l| l.exp()).collect();
        let mass: f64 = weights.iter().sum();
        let mean = weights.iter().zip(&scores).map(|(w, s)| w * s.value()).sum::<f64>() / mass;
        let read = readings(&judge, &model, &stream, &rollouts);
        for reading in &read {
            let expected = reading.expected.expect("all came as far as the score");
            assert!((expected.score - mean).abs() < 1e-13 * 101.0, "{expected:?} {mean}");
            assert!((expected.mass / mass - 1.0).abs() < 1e-13, "{expected:?} {mass}");
        }
        assert_eq!(read.iter().filter(|reading| reading.verdict.is_ok()).count(), 1);
        (mean, logprobs)
    };
    let ((single, logprobs), (double, exact)) = (by(DType::F32), by(DType::F64));
    let worst = logprobs.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "{worst}");
    // No weight moves by more than a factor e^worst, so no mean over 1 to 10 moves further than this.
    assert!((single - double).abs() <= 9.0 * (2.0 * worst).exp_m1(), "{single} {double}");
    assert!((1.0..=10.0).contains(&double) && (double - 5.5).abs() > 1e-3, "{double} tells something");
}

#[test]
fn judgements_that_break_the_grammar_before_their_score_have_none_expected() {
    let stream = stream();
    let judge = judge().expecting().expect("the tag stands alone");
    let model = model(&stream, DType::F32, judge.tokenizer.vocab_size());
    let texts = [
        format!("{BEGUN}7</score>"),
        format!("{BEGUN}7"),
        BEGUN.to_owned(),
        format!("<think>\n<score>\n</think>{BEGUN}1</score>"),
        "<rubric>a: b (1)</rubric><eval>a: c</eval>".to_owned(),
        "<rubric>a b</rubric><eval>a: c</eval><score>7</score>".to_owned(),
        format!("{BEGUN}7</score><score>8</score>"),
        "<score>".to_owned(),
        String::new(),
    ];
    let prompt = tokens(&[1, 2, 3]);
    let rollouts: Vec<Rollout> =
        texts.iter().map(|text| rollout(&judge, &prompt, text, Finish::Length)).collect();
    let read = readings(&judge, &model, &stream, &rollouts);
    let some: Vec<bool> = read.iter().map(|reading| reading.expected.is_some()).collect();
    assert_eq!(some, [true, true, true, true, false, false, false, false, false]);
    assert_eq!(read[0].expected, read[1].expected, "only what stands before the score matters");
    let plain = self::judge();
    assert!(readings(&plain, &model, &stream, &rollouts).iter().all(|reading| reading.expected.is_none()));
}

#[test]
fn a_token_that_runs_past_the_tag_is_cut_there() {
    let stream = stream();
    let judge = judge().expecting().expect("the tag stands alone");
    let model = model(&stream, DType::F32, judge.tokenizer.vocab_size());
    let prompt = tokens(&[1, 2, 3]);
    let whole = rollout(&judge, &prompt, &format!("{BEGUN}7</score>"), Finish::Stop);
    // The same text, its tag letter by letter, its last letter in one token with what follows, if there is such a token.
    let mut letters = whole.clone();
    let head = judge.tokenizer.encode("<rubric>a: b (1)</rubric><eval>a: c</eval>").expect("plain text");
    let tail =
        "<score>7</score>".chars().flat_map(|c| judge.tokenizer.encode(&c.to_string()).expect("plain"));
    letters.completion = head.into_iter().chain(tail).collect();
    letters.finish = Finish::Length;
    for column in [&mut letters.logprob, &mut letters.lse, &mut letters.entropy] {
        column.resize(letters.completion.len(), 0.0);
    }
    assert_eq!(
        judge.tokenizer.decode(&letters.completion, Specials::Keep),
        format!("{BEGUN}7</score>"),
        "both say the same"
    );
    let read = readings(&judge, &model, &stream, &[whole, letters]);
    let [one, other] = [&read[0], &read[1]].map(|reading| reading.expected.expect("a score was reached"));
    assert_ne!(one, other, "the policy sees the tokens that were drawn, not the text");
    assert!((1.0..=10.0).contains(&other.score) && other.mass > 0.0);
}
