//! A tiny model's whole way through the CUDA kernels, on the CPU: what is sampled is learned from in one GRPO step, and every
//! number stays as near to the f64 backend's as the bf16 backend of the CPU does.

#[path = "kernels/on_cpu.rs"]
mod on_cpu;
#[path = "cuda_step/parity.rs"]
mod parity;
#[path = "qwen3/tiny.rs"]
mod tiny;

use std::ops::ControlFlow;
use std::sync::Arc;

use patarm::device::{Device, DeviceChoice, Stream};
use patarm::grpo::{Advantage, Group, Life, LossConfig, Scored, Sharing, TrainBatch, pack};
use patarm::ops::grpo_loss::LossSums;
use patarm::optimizer::{Kept, OptimizerConfig, Update};
use patarm::qwen3::{Keep, Model, ParamId};
use patarm::record::{Rollout, Sampling, SeedKey};
use patarm::rollout::{Engine, Limits, Request};
use patarm::tensor::{Arena, DType};
use patarm::tokenizer::TokenId;
use patarm::trainer::{Gate, Learner, Objective, Pass, PassLimits};
use tiny::VOCABULARY;

/// A learner whose weights are, in each dtype and on each device, the same bf16 numbers.
fn learner(stream: Stream, dtype: DType) -> Learner {
    let host = Stream::new(Device::open(DeviceChoice::Cpu, 1).expect("a CPU"));
    let mut arena = Arena::new("weights", host.device(), 1 << 20);
    let mut weights = Model::new(tiny::config(true), DType::BF16, 256, &mut arena).expect("fits");
    weights.initialise(&host, 3).expect("a CPU");
    let mut arena = Arena::new("model", stream.device(), 1 << 22);
    let mut model = Model::new(tiny::config(true), dtype, 256, &mut arena).expect("fits");
    for (id, tensor) in model.params.iter_mut() {
        // Larger than at the start of a training run, so that policies are far from uniform.
        let factor = if id.is_vector() { 1.0 } else { 4.0 };
        let values = weights.params.get(id).to_f64();
        tensor.view_mut().write_f64(values.into_iter().map(|w| w * factor)).expect("a device that works");
    }
    let mut learner = Learner::new(stream, model, Kept::default(), &mut arena).expect("fits");
    learner.refresh_master().expect("a device that works");
    learner
}

/// Three samples of each of two prompts, one of which is longer than a block of the cache.
fn sample(learner: &Learner) -> Vec<Rollout> {
    let request = |(group, length): (u32, usize)| Request {
        prompt: (0..length).map(|i| TokenId(((i * 31 + group as usize * 7) % VOCABULARY) as u32)).collect(),
        group,
        seeds: (0..3).map(|sample| SeedKey { run: 5, step: 2, group, sample }).collect(),
        sampling: Sampling::default(),
        stop: Arc::from([TokenId(1)]),
        vocabulary: VOCABULARY,
        max_new_tokens: 9,
        thought: None,
    };
    let requests: Vec<Request> = [(0, 67), (1, 5)].map(request).into();
    let model = &learner.model;
    let limits = Limits { tokens: 80, sequences: 6, blocks: 12 };
    let mut arena = Arena::new("rollout", learner.stream.device(), 1 << 24);
    let mut engine = Engine::new(&model.config, model.dtype, limits, &mut arena).expect("fits");
    engine
        .generate(&learner.stream, model, 0, &requests, &mut |_, _| ControlFlow::Continue(()))
        .expect("every request fits")
}

fn loss() -> LossConfig {
    LossConfig { kl: 0.05, entropy: 0.01, ..LossConfig::default() }
}

fn batch(rollouts: &[Rollout]) -> TrainBatch {
    let reference = |rollout: &Rollout| rollout.logprob.iter().map(|x| x - 0.125).collect();
    let references: Vec<Vec<f32>> = rollouts.iter().map(reference).collect();
    let scored = |i: usize| Scored {
        rollout: &rollouts[i],
        advantage: Some(Advantage([1.0, -0.25, -0.75][i % 3])),
        reference: Some(&references[i]),
    };
    let group = |g: usize| Group { rollouts: (3 * g..3 * g + 3).map(scored).collect(), life: Life::Alive };
    let groups: Vec<Group<'_>> = (0..rollouts.len() / 3).map(group).collect();
    pack(&groups, &loss(), Sharing::Prefix, 128).expect("every family fits")
}

/// What one step leaves behind.
struct Step {
    loss: f64,
    gradients: Vec<(ParamId, Vec<f64>)>,
    weights: Vec<(ParamId, Vec<f64>)>,
}

fn step(mut learner: Learner, batch: &TrainBatch) -> Step {
    let limits = PassLimits { rows: 128, targets: 64, tile: 16, keep: Keep::All };
    let mut memory = Arena::new("pass", learner.stream.device(), 1 << 24);
    let mut pass = Pass::new(&learner.model.config, learner.model.dtype, limits, &mut memory).expect("fits");
    let (config, mut sums) = (loss(), LossSums::default());
    let objective = Objective::Policy { loss: &config, inv_temperature: 1.0 };
    learner.zero_gradients().expect("a device that works");
    for leaf in &batch.leaves {
        learner.accumulate(leaf, objective, &mut pass, &mut sums).expect("fits");
    }
    let ids: Vec<ParamId> = learner.model.params.iter().map(|(id, _)| id).collect();
    let gradient = |id: &ParamId| (*id, learner.gradient(*id).read().expect("a device that works"));
    let gradients = ids.iter().map(gradient).collect();
    let optimizer = OptimizerConfig { lr: 0.01, ..OptimizerConfig::default() };
    let update = learner.update(&optimizer, 1, (sums.loss, Gate::OPEN)).expect("applies");
    assert!(matches!(update, Update::Applied { .. }), "{update:?}");
    let weight = |id: &ParamId| (*id, learner.model.params.get(*id).read().expect("a device that works"));
    Step { loss: sums.loss, gradients, weights: ids.iter().map(weight).collect() }
}

/// |a - b| / |b|.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    assert!(a.iter().chain(b).all(|x| x.is_finite()), "not finite");
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied()).max(f64::MIN_POSITIVE)
}

#[test]
fn one_grpo_step_by_the_cuda_kernels_is_as_near_to_f64_as_the_cpus_own() {
    let cpu = || Stream::new(Device::open(DeviceChoice::Cpu, 2).expect("a CPU"));
    let rollouts = sample(&learner(on_cpu::stream(0), DType::BF16));
    assert!(rollouts.iter().all(|rollout| rollout.completion.len() > 1), "something was drawn");
    let batch = batch(&rollouts);
    let exact = step(learner(cpu(), DType::F64), &batch);
    let plain = step(learner(cpu(), DType::BF16), &batch);
    for (schedule, capability) in on_cpu::SCHEDULES.into_iter().zip([[9, 0], [8, 0], [9, 0]]) {
        let got = step(learner(on_cpu::stream_of(schedule, capability), DType::BF16), &batch);
        let allowed = 2.0 * (plain.loss - exact.loss).abs() + 2f64.powi(-8) * exact.loss.abs();
        assert!((got.loss - exact.loss).abs() <= allowed, "{} {} {}", got.loss, plain.loss, exact.loss);
        for (what, [got, plain, exact]) in [
            ("gradient", [&got.gradients, &plain.gradients, &exact.gradients]),
            ("weight", [&got.weights, &plain.weights, &exact.weights]),
        ] {
            for (((id, got), (_, plain)), (_, exact)) in got.iter().zip(plain).zip(exact) {
                let (got, plain) = (distance(got, exact), distance(plain, exact));
                assert!(got <= 2.0 * plain + 1e-6, "{what} of {}: {got}, the CPU's {plain}", id.name());
            }
        }
    }
}

#[test]
fn the_orders_in_which_threads_run_leave_the_same_bits() {
    let rollouts = sample(&learner(on_cpu::stream(0), DType::BF16));
    assert_eq!(rollouts, sample(&learner(on_cpu::stream(2), DType::BF16)));
    let batch = batch(&rollouts);
    let [one, two] = [0, 1].map(|schedule| step(learner(on_cpu::stream(schedule), DType::BF16), &batch));
    assert_eq!(one.loss.to_bits(), two.loss.to_bits());
    assert!(one.gradients == two.gradients && one.weights == two.weights);
}
