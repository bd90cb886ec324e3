//! CPU and device side by side: log-probabilities and every gradient of a model, each as near to a more exact CPU's as the bf16
//! backend of the CPU is.

use patarm::device::{Device, DeviceChoice, DeviceError, Float, Stream};
use patarm::grpo::{Example, Packed, pack_examples};
use patarm::ops::grpo_loss::LossSums;
use patarm::optimizer::{Kept, WeightRounding};
use patarm::qwen3::{Config, Keep, Model, ParamId};
use patarm::tensor::{Arena, ArenaError, DType, Element, View, ViewMut};
use patarm::trainer::{Learner, Objective, Pass, PassLimits, log_probabilities};
use patarm::with_float;

use crate::{distance, on_cpu};

const DEMO: &str = include_str!("../../models/demo/config.json");
const QWEN3_8B: &str = include_str!("../../models/qwen3-8b/config.json");

/// A model, the bf16 weights that every side has, and what it is shown.
struct Case {
    config: Config,
    weights: Model,
    batch: Packed,
    tile: usize,
}

impl Case {
    /// Random weights; examples of `lengths` tokens, prompt and completion.
    fn new(config: Config, lengths: &[[usize; 2]], tile: usize) -> Self {
        let host = cpu();
        let bytes = bytes_of(|arena| Model::new(config.clone(), DType::BF16, 512, arena).map(drop));
        let mut arena = Arena::sized("weights", host.device(), bytes).expect("a machine with room");
        let mut weights = Model::new(config.clone(), DType::BF16, 512, &mut arena).expect("planned");
        weights.initialise(&host, 7).expect("a CPU");
        let token = |i: usize| (i * 2_654_435_761 % config.vocabulary) as u32;
        let text = |i: usize, len: usize| (1000 * i..1000 * i + len).map(token).collect::<Vec<_>>();
        let texts: Vec<_> =
            lengths.iter().enumerate().map(|(i, [a, b])| (text(2 * i, *a), text(2 * i + 1, *b))).collect();
        let examples: Vec<_> =
            texts.iter().map(|(prompt, completion)| Example { prompt, completion }).collect();
        let batch = pack_examples(&examples, 512).expect("fits").leaves.remove(0);
        Self { config, weights, batch, tile }
    }

    /// The model on `stream`, having learned nothing yet, and the log-probabilities of every target.
    fn run(&self, stream: Stream, dtype: DType) -> Numbers {
        let kept = Kept { rounding: WeightRounding::Stochastic, ..Kept::default() };
        let limits = PassLimits {
            rows: self.batch.tokens.len(),
            targets: self.batch.targets.ids.len(),
            tile: self.tile,
            keep: Keep::All,
        };
        let build = |stream: Stream, arena: &mut Arena| {
            let model = Model::new(self.config.clone(), dtype, 512, arena)?;
            let learner = Learner::new(stream, model, kept, arena)?;
            let pass = Pass::new(&self.config, dtype, limits, arena)?;
            Ok((learner, pass))
        };
        let bytes = bytes_of(|arena| build(cpu(), arena).map(drop));
        let mut arena = Arena::sized("parity", stream.device(), bytes).expect("a device with room");
        let (mut learner, mut pass) = build(stream, &mut arena).expect("planned");
        for (id, tensor) in learner.model.params.iter_mut() {
            widen(self.weights.params.get(id), tensor.view_mut());
        }
        let Learner { stream, model, .. } = &learner;
        let logprobs = log_probabilities(stream, model, &self.batch, 1.0, &mut pass).expect("fits");
        let mut sums = LossSums::default();
        learner.accumulate(&self.batch, Objective::Supervised, &mut pass, &mut sums).expect("fits");
        Numbers { logprobs, learner }
    }
}

/// Log-probabilities, and gradients where they lie.
struct Numbers {
    logprobs: Vec<f64>,
    learner: Learner,
}

impl Numbers {
    /// How far these are from `exact`, by name: |a - b| / |b| of each kind of number.
    fn distances(&self, exact: &Self) -> Vec<(String, f64)> {
        let ids = self.learner.model.params.iter().map(|(id, _)| id);
        let gradient = |id: ParamId| {
            let [a, b] = [self, exact].map(|n| n.learner.gradient(id).read().expect("a device that works"));
            (id.name(), distance(&a, &b))
        };
        let logprobs = ("log-probabilities".to_owned(), distance(&self.logprobs, &exact.logprobs));
        std::iter::once(logprobs).chain(ids.map(gradient)).collect()
    }
}

/// Holds the device to the CPU: `exact` is the CPU's dtype that both are measured by.
fn hold(case: &Case, exact: DType, device: impl IntoIterator<Item = Stream>) {
    let exact = case.run(cpu(), exact);
    let plain = case.run(cpu(), DType::BF16).distances(&exact);
    assert!(plain.iter().all(|(_, plain)| *plain > 1e-5), "nothing was rounded: {plain:?}");
    for stream in device {
        let got = case.run(stream, DType::BF16).distances(&exact);
        for ((name, got), (_, plain)) in got.iter().zip(&plain) {
            assert!(*got <= 2.0 * plain + 1e-6, "{name}: {got} from exact, the CPU's own bf16 {plain}");
        }
    }
}

fn cpu() -> Stream {
    Stream::new(Device::open(DeviceChoice::Cpu, 0).expect("a CPU"))
}

/// What `build` takes of an arena.
fn bytes_of(build: impl FnOnce(&mut Arena) -> Result<(), ArenaError>) -> usize {
    let mut plan = Arena::planned("parity");
    build(&mut plan).expect("a plan is never full");
    plan.peak()
}

/// The same numbers in another dtype, wherever they go.
fn widen(from: View<'_>, to: ViewMut<'_>) {
    if from.dtype() == to.dtype() {
        let filled: Result<(), DeviceError> = to.write_bytes(|bytes| {
            bytes.copy_from_slice(from.host_bytes());
            Ok(())
        });
        return filled.expect("a device that works");
    }
    with_float!(from.dtype(), From => with_float!(to.dtype(), To => {
        let wide = from.host::<From>().iter().map(|x| To::store(Float::from_f64(x.load().to_f64())));
        to.write(&wide.collect::<Vec<To>>()).expect("a device that works");
    }));
}

#[test]
fn the_demo_models_numbers_by_the_cuda_kernels_are_as_near_to_f64_as_the_cpus_own() {
    let config = Config::parse(DEMO).expect("a shape");
    let case = Case::new(config, &[[70, 9], [3, 31], [1, 1]], 16);
    hold(&case, DType::F64, [on_cpu::stream_of(1, [8, 0]), on_cpu::stream_of(2, [9, 0])]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn four_layers_of_qwen3_8b_on_a_device_are_as_near_to_f32_as_the_cpus_own() {
    assert!(std::env::var_os("PATARM_TEST_DEVICE").is_some(), "PATARM_TEST_DEVICE holds no GPU's index");
    let config = Config { layers: 4, ..Config::parse(QWEN3_8B).expect("a shape") };
    let case = Case::new(config, &[[17, 20], [5, 6]], 32);
    hold(&case, DType::F32, [on_cpu::stream_of(0, [9, 0])]);
}
