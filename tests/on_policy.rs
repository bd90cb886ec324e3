//! What sampling stores equals what the trainer's packed, cache-free forward computes, bit for bit, on the CPU and by the CUDA
//! kernels.

#[path = "kernels/on_cpu.rs"]
mod on_cpu;
#[path = "qwen3/tiny.rs"]
mod tiny;

use std::ops::ControlFlow;
use std::sync::Arc;

use patarm::device::{Device, DeviceChoice, Stream};
use patarm::dims;
use patarm::ops::attention::{Source, Span};
use patarm::ops::head::{self, HeadInput, Logprobs, Scratch};
use patarm::ops::philox::Key;
use patarm::ops::{random, rows};
use patarm::qwen3::{self, Activations, Config, Keep, LowRank, Model, Packed};
use patarm::record::{Finish, Rollout, Sampling, SeedKey};
use patarm::rollout::{Engine, Limits, Request, Thought};
use patarm::tensor::{Arena, DType, Tensor};
use patarm::tokenizer::TokenId;
use proptest::prelude::*;
use tiny::VOCABULARY;

fn stream(threads: usize) -> Stream {
    Stream::new(Device::open(DeviceChoice::Cpu, threads).expect("a CPU"))
}

fn model(stream: &Stream, dtype: DType, tied: bool) -> Model {
    let mut arena = Arena::new("model", stream.device(), 1 << 24);
    let mut model = Model::new(tiny::config(tied), dtype, 1024, &mut arena).expect("fits");
    model.initialise(stream, 3).expect("host");
    // Larger weights than at the start of a training run, so that policies are far from uniform.
    for (id, tensor) in model.params.iter_mut() {
        if !id.is_vector() && dtype == DType::F32 {
            tensor.view_mut().host_mut::<f32>().iter_mut().for_each(|w| *w *= 8.0);
        }
    }
    model
}

/// Ids where the stream runs.
fn ids(stream: &Stream, values: &[u32]) -> Tensor {
    let mut tensor = Tensor::on(stream.device(), DType::U32, dims![N: values.len()]).expect("room");
    tensor.view_mut().write_ids(values).expect("a device that works");
    tensor
}

fn requests(lengths: &[usize], samples: u32, sampling: Sampling) -> Vec<Request> {
    lengths
        .iter()
        .enumerate()
        .map(|(group, &length)| Request {
            prompt: (0..length).map(|i| TokenId(((i * 31 + group * 7) % VOCABULARY) as u32)).collect(),
            group: group as u32,
            seeds: (0..samples)
                .map(|sample| SeedKey { run: 5, step: 2, group: group as u32, sample })
                .collect(),
            sampling,
            stop: Arc::from([TokenId(1)]),
            vocabulary: VOCABULARY - 3,
            max_new_tokens: 19 + group % 3,
            thought: None,
        })
        .collect()
}

fn generate(stream: &Stream, model: &Model, limits: Limits, requests: &[Request]) -> Vec<Rollout> {
    let mut plan = Arena::planned("rollout");
    Engine::new(&model.config, model.dtype, limits, &mut plan).expect("a plan is never full");
    let mut arena = Arena::new("rollout", stream.device(), plan.peak());
    let mut engine = Engine::new(&model.config, model.dtype, limits, &mut arena).expect("planned");
    engine.generate(stream, model, 0, requests, &mut |_, _| ControlFlow::Continue(())).expect("fits")
}

/// Packs prompts once with their completions as children, or every sequence whole.
fn pack(rollouts: &[Rollout], shared: bool) -> (Packed, Vec<u32>, Vec<u32>) {
    let (mut batch, mut heads, mut targets) = (Packed::default(), Vec::new(), Vec::new());
    let add = |batch: &mut Packed, tokens: &[TokenId], start: usize, parent: Option<usize>| {
        let first = batch.len();
        batch.tokens.extend(tokens.iter().map(|t| t.0));
        batch.positions.extend((start..start + tokens.len()).map(|p| p as u32));
        batch.spans.push(Span { queries: first..batch.len(), start, source: Source::Packed { parent } });
        (batch.spans.len() - 1, first as u32, batch.len() as u32 - 1)
    };
    let mut prompt = None;
    for rollout in rollouts {
        let (completion, length) = (&rollout.completion, rollout.prompt.len());
        let last = completion.len() - 1;
        if shared {
            let (group, span, end) = match prompt {
                Some((group, span, end)) if group == rollout.group => (group, span, end),
                _ => {
                    let (span, _, end) = add(&mut batch, &rollout.prompt, 0, None);
                    (rollout.group, span, end)
                }
            };
            prompt = Some((group, span, end));
            heads.push(end);
            if last > 0 {
                let (_, first, _) = add(&mut batch, &completion[..last], length, Some(span));
                heads.extend(first..first + last as u32);
            }
        } else {
            let whole = [&rollout.prompt[..], &completion[..last]].concat();
            let (_, first, _) = add(&mut batch, &whole, 0, None);
            let first = first + length as u32 - 1;
            heads.extend(first..=first + last as u32);
        }
        targets.extend(completion.iter().map(|t| t.0));
    }
    (batch, heads, targets)
}

/// Log-probability, LSE and entropy of every drawn token by the packed forward with all activations kept.
fn recompute(
    stream: &Stream,
    model: &Model,
    rollouts: &[Rollout],
    shared: bool,
    tile: usize,
) -> Vec<[f32; 3]> {
    let (batch, heads, targets) = pack(rollouts, shared);
    let mut arena = Arena::new("train", stream.device(), 1 << 28);
    let (c, n) = (&model.config, heads.len());
    let mut buffers = Activations::new(c, model.dtype, Keep::All, batch.len(), &mut arena).expect("fits");
    qwen3::forward(stream, model, &batch, &mut buffers, None).expect("fits");
    let mut x = arena.tensor(model.dtype, dims![N: n, C: c.hidden]).expect("fits");
    let heads = ids(stream, &heads);
    rows::gather(stream, buffers.hidden(batch.len()), heads.view(), x.view_mut()).expect("fits");
    let targets = ids(stream, &targets);
    let w = model.params.get(model.params.head_id());
    let inv_temperature = head::inverse_temperature(rollouts[0].sampling.temperature);
    let input = HeadInput { x: x.view(), w, targets: targets.view(), inv_temperature };
    let mut scratch = Scratch::new(&mut arena, model.dtype, tile, c.vocabulary).expect("fits");
    let mut out = [(); 3].map(|()| arena.tensor(DType::F32, dims![N: n]).expect("fits"));
    let [logprob, lse, entropy] = out.each_mut().map(|t| t.view_mut());
    head::token_logprob(stream, input, &mut scratch, Logprobs { logprob, lse, entropy }).expect("fits");
    let [a, b, c] = out.each_ref().map(|t| t.view().read().expect("a device that works"));
    (0..n).map(|i| [a[i], b[i], c[i]].map(|x| x as f32)).collect()
}

fn stored(rollouts: &[Rollout]) -> Vec<[f32; 3]> {
    let columns =
        |r: &Rollout| (0..r.completion.len()).map(|i| [r.logprob[i], r.lse[i], r.entropy[i]]).collect();
    rollouts.iter().flat_map(|r| -> Vec<[f32; 3]> { columns(r) }).collect()
}

fn bits(values: &[[f32; 3]]) -> Vec<[u32; 3]> {
    values.iter().map(|v| v.map(f32::to_bits)).collect()
}

const LENGTHS: [usize; 9] = [1, 2, 63, 64, 65, 255, 256, 257, 31];

#[test]
fn stored_log_probabilities_equal_the_packed_forward_to_the_bit() {
    for (dtype, tied, temperature) in
        [(DType::F32, true, 1.0), (DType::F32, false, 0.7), (DType::BF16, true, 1.0)]
    {
        let stream = stream(2);
        let model = model(&stream, dtype, tied);
        let sampling = Sampling { temperature, ..Sampling::default() };
        let limits = Limits { tokens: 300, sequences: 30, blocks: 200 };
        let rollouts = generate(&stream, &model, limits, &requests(&LENGTHS, 3, sampling));
        assert!(rollouts.iter().any(|r| r.completion.len() > 10), "something was drawn");
        for (shared, tile) in [(true, 512), (false, 512), (true, 7)] {
            let again = recompute(&stream, &model, &rollouts, shared, tile);
            assert_eq!(bits(&stored(&rollouts)), bits(&again), "{dtype:?}, shared {shared}, tile {tile}");
        }
    }
}

#[test]
fn so_they_do_by_the_cuda_kernels() {
    for (schedule, capability) in on_cpu::SCHEDULES.into_iter().zip([[9, 0], [8, 0], [9, 0]]) {
        let stream = on_cpu::stream_of(schedule, capability);
        let model = model(&stream, DType::BF16, schedule % 2 == 0);
        let limits = Limits { tokens: 90, sequences: 8, blocks: 40 };
        let rollouts = generate(&stream, &model, limits, &requests(&[1, 65, 31], 2, Sampling::default()));
        assert!(rollouts.iter().any(|r| r.completion.len() > 10), "something was drawn");
        for (shared, tile) in [(true, 512), (false, 7)] {
            let again = recompute(&stream, &model, &rollouts, shared, tile);
            assert_eq!(
                bits(&stored(&rollouts)),
                bits(&again),
                "schedule {schedule}, shared {shared}, tile {tile}"
            );
        }
    }
}

#[test]
fn by_the_cuda_kernels_too_a_rollout_depends_on_its_prompt_seed_and_sampling_alone() {
    [on_cpu::stream(1), on_cpu::stream_of(1, [9, 0])].into_iter().for_each(a_rollout_depends_on_itself_alone);
}

fn a_rollout_depends_on_itself_alone(stream: Stream) {
    let model = model(&stream, DType::BF16, true);
    let all = requests(&[1, 63, 33], 2, Sampling { top_k: 40, top_p: 0.9, ..Sampling::default() });
    let alone =
        |i: usize| generate(&stream, &model, Limits { tokens: 17, sequences: 2, blocks: 12 }, &all[i..=i]);
    let alone: Vec<Rollout> = (0..all.len()).flat_map(alone).collect();
    let together = generate(&stream, &model, Limits { tokens: 64, sequences: 6, blocks: 40 }, &all);
    assert_eq!(bits(&stored(&alone)), bits(&stored(&together)));
    assert_eq!(alone, together);
}

#[test]
fn so_they_do_with_a_low_rank_adapter() {
    for dtype in [DType::F32, DType::BF16] {
        let stream = stream(2);
        let base = model(&stream, dtype, true);
        let mut arena = Arena::new("model", stream.device(), 1 << 24);
        let adapter = LowRank::new(5, 12.0, &["all"]).expect("sound");
        let config = Config { adapter: Some(adapter), ..tiny::config(true) };
        let mut model = Model::new(config, dtype, 1024, &mut arena).expect("fits");
        for (id, tensor) in model.params.iter_mut() {
            rows::copy(&stream, base.params.get(id), tensor.view_mut()).expect("alike");
        }
        // Neither factor is 0, as after some training.
        for (_, tensor) in model.adapter.iter_mut().flat_map(|factors| factors.iter_mut()) {
            random::normal(&stream, tensor.view_mut(), Key::of_request(9, 0, 0, 0), 0.2).expect("host");
        }
        let limits = Limits { tokens: 300, sequences: 30, blocks: 200 };
        let requests = requests(&LENGTHS, 3, Sampling::default());
        let rollouts = generate(&stream, &model, limits, &requests);
        for (shared, tile) in [(true, 512), (false, 7)] {
            let again = recompute(&stream, &model, &rollouts, shared, tile);
            assert_eq!(bits(&stored(&rollouts)), bits(&again), "{dtype:?}, shared {shared}, tile {tile}");
        }
        assert_ne!(stored(&rollouts), recompute(&stream, &base, &rollouts, true, 512), "the adapter matters");
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    let stream = stream(1);
    let model = model(&stream, DType::F32, true);
    let limits = Limits { tokens: 300, sequences: 8, blocks: 64 };
    let mut rollouts = generate(&stream, &model, limits, &requests(&[33, 5], 2, Sampling::default()));
    let flipped = f32::from_bits(rollouts[1].logprob[3].to_bits() ^ 1);
    rollouts[1].logprob[3] = flipped;
    assert_ne!(bits(&stored(&rollouts)), bits(&recompute(&stream, &model, &rollouts, true, 64)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_rollout_depends_on_its_prompt_seed_and_sampling_alone(
        order in Just((0..LENGTHS.len()).collect::<Vec<_>>()).prop_shuffle(),
        threads in 1..4_usize,
        tokens in 1..400_usize,
        sequences in 3..40_usize,
        blocks in 22..120_usize,
    ) {
        let all = requests(&LENGTHS, 3, Sampling { top_k: 40, top_p: 0.9, ..Sampling::default() });
        let one = stream(1);
        let model = model(&one, DType::F32, true);
        let alone: Vec<Rollout> = order
            .iter()
            .flat_map(|&i| generate(&one, &model, Limits { tokens: 64, sequences: 3, blocks: 40 }, &all[i..=i]))
            .collect();
        let shuffled: Vec<Request> = order.iter().map(|&i| all[i].clone()).collect();
        let together = generate(&stream(threads), &model, Limits { tokens, sequences, blocks }, &shuffled);
        prop_assert_eq!(bits(&stored(&alone)), bits(&stored(&together)));
        prop_assert_eq!(alone, together);
    }
}

const OPENS: TokenId = TokenId(90);
const ENDS: TokenId = TokenId(91);
const CLOSING: [TokenId; 3] = [TokenId(10), ENDS, TokenId(11)];

/// Requests that may think; where `open`, their prompts end inside a thought.
fn thinkers(budget: usize, open: bool) -> Vec<Request> {
    let mut requests = requests(&LENGTHS, 3, Sampling::default());
    for request in &mut requests {
        let last = if open { OPENS } else { TokenId(5) };
        let plain = request
            .prompt
            .iter()
            .map(|token| if [OPENS, ENDS].contains(token) { TokenId(6) } else { *token });
        request.prompt = plain.chain([last]).collect();
        request.thought = Some(Thought { opens: OPENS, ends: ENDS, budget, closing: CLOSING.into() });
    }
    requests
}

#[test]
fn a_thought_over_its_budget_is_closed_by_force_and_the_answer_has_all_its_tokens() {
    let stream = stream(2);
    let model = model(&stream, DType::F32, true);
    let limits = Limits { tokens: 300, sequences: 30, blocks: 200 };
    for budget in [0, 1, 7] {
        let requests = thinkers(budget, true);
        let rollouts = generate(&stream, &model, limits, &requests);
        let mut closed = 0;
        for rollout in &rollouts {
            let request = &requests[rollout.group as usize];
            let said = &rollout.completion;
            let own_end = said.iter().take(budget).position(|token| *token == ENDS);
            let stopped = said.iter().take(budget).any(|token| *token == TokenId(1));
            if own_end.is_some() || stopped {
                assert!(rollout.forced.is_empty(), "it ended by itself: {rollout:?}");
            } else {
                closed += 1;
                assert_eq!(said[budget..budget + 3], CLOSING);
                assert_eq!(rollout.forced, [0, 1, 2].map(|i| (budget + i) as u32));
            }
            let answer = match (own_end, stopped) {
                (Some(end), _) => said.len() - end - 1,
                (None, true) => continue,
                (None, false) => said.len() - budget - 3,
            };
            let cut = rollout.finish == Finish::Length;
            assert!(answer <= request.max_new_tokens && (!cut || answer == request.max_new_tokens));
        }
        assert!(closed > 20, "most thoughts are too long for {budget} tokens: {closed}");
        let again = recompute(&stream, &model, &rollouts, true, 512);
        assert_eq!(bits(&stored(&rollouts)), bits(&again), "forced tokens keep the policy's own numbers");
    }
}

#[test]
fn a_thought_that_never_begins_changes_nothing() {
    let stream = stream(1);
    let model = model(&stream, DType::F32, true);
    let limits = Limits { tokens: 300, sequences: 30, blocks: 200 };
    let thinking = thinkers(2, false);
    let mut plain = thinking.clone();
    plain.iter_mut().for_each(|request| request.thought = None);
    let (with, without) =
        (generate(&stream, &model, limits, &thinking), generate(&stream, &model, limits, &plain));
    let mut thoughts = 0;
    for (with, without) in with.iter().zip(&without) {
        match without.completion.iter().position(|token| *token == OPENS) {
            None => assert_eq!(with, without),
            Some(at) => {
                thoughts += 1;
                assert_eq!(with.completion[..=at], without.completion[..=at]);
                assert!(with.forced.first().is_none_or(|first| *first as usize == at + 3), "{with:?}");
            }
        }
    }
    assert!(thoughts < with.len());
}

#[test]
fn a_thinkers_rollout_does_not_depend_on_what_shares_its_batch() {
    let stream = stream(2);
    let model = model(&stream, DType::F32, true);
    let (open, plain) = (thinkers(4, true), requests(&LENGTHS, 3, Sampling::default()));
    let mixed: Vec<Request> = open.iter().zip(plain).flat_map(|(a, b)| [a.clone(), b]).collect();
    let limits = Limits { tokens: 111, sequences: 13, blocks: 60 };
    let together = generate(&stream, &model, limits, &mixed);
    let thinking = together.chunks(3).step_by(2).flatten().cloned().collect::<Vec<_>>();
    let alone = generate(&stream, &model, Limits { tokens: 64, sequences: 3, blocks: 40 }, &open);
    assert_eq!(thinking, alone);
}
