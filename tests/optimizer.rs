//! The optimizer over a list of parameters: clip, decay, schedule, and steps that must not happen.

use patarm::device::{Device, DeviceChoice, Stream};
use patarm::dims;
use patarm::ops::adamw::{AdamW, Param, Rounding, step};
use patarm::optimizer::{Decay, Measure, OptimizerConfig, Parameter, Schedule, Update, update, update_up_to};
use patarm::tensor::{DType, Tensor};

fn stream() -> Stream {
    Stream::new(Device::open(DeviceChoice::Cpu, 2).expect("the tests' machine has AVX2"))
}

/// w, g, m, v of one parameter.
struct Held([Tensor; 4]);

impl Held {
    fn new(w: f64, g: &[f64]) -> Self {
        let fill = |x: f64| Tensor::from_slice(&vec![x; g.len()], dims![N: g.len()]);
        Self([fill(w), Tensor::from_slice(g, dims![N: g.len()]), fill(0.0), fill(0.0)])
    }

    fn param(&mut self) -> Param<'_> {
        let [w, g, m, v] = &mut self.0;
        Param { w: w.view_mut(), g: g.view(), m: m.view_mut(), v: v.view_mut(), scales: None, master: None }
    }

    fn values(&self) -> Vec<Vec<f64>> {
        self.0.iter().map(|tensor| tensor.view().to_f64()).collect()
    }
}

fn config() -> OptimizerConfig {
    OptimizerConfig { lr: 0.01, weight_decay: 0.1, ..OptimizerConfig::default() }
}

fn run(config: &OptimizerConfig, matrix: &mut Held, gain: &mut Held, count: u64) -> Update {
    let parameters = [
        Parameter { name: "matrix", param: matrix.param(), decay: Decay::Yes, rounding: Rounding::Nearest },
        Parameter { name: "gain", param: gain.param(), decay: Decay::No, rounding: Rounding::Nearest },
    ];
    update(&stream(), config, count, parameters).expect("shapes fit")
}

#[test]
fn gradients_are_scaled_by_their_global_norm_and_only_matrices_decay() {
    let (mut matrix, mut gain) = (Held::new(1.0, &[3.0, 0.0]), Held::new(1.0, &[4.0]));
    let outcome = run(&config(), &mut matrix, &mut gain, 1);
    let factor = 1.0 / (5.0 + 1e-6);
    assert_eq!(outcome, Update::Applied { norm: 5.0, factor, lr: 0.01 });
    for (held, g, weight_decay) in [(&matrix, vec![3.0, 0.0], 0.1), (&gain, vec![4.0], 0.0)] {
        let mut alone = Held::new(1.0, &g);
        let settings = AdamW {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay,
            step: 1,
            grad_scale: factor,
            rounding: Rounding::Nearest,
        };
        step(&stream(), alone.param(), &settings).expect("shapes fit");
        assert_eq!(held.values(), alone.values());
    }
}

#[test]
fn a_small_norm_and_a_clip_of_zero_leave_gradients_as_they_are() {
    for (max_norm, g) in [(1.0, 0.3), (0.0, 300.0)] {
        let config = OptimizerConfig { max_norm, ..config() };
        let outcome = run(&config, &mut Held::new(1.0, &[g]), &mut Held::new(1.0, &[0.0]), 1);
        assert!(matches!(outcome, Update::Applied { factor: 1.0, .. }), "{outcome:?}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_touches_nothing_and_is_named() {
    for bad in [f64::NAN, f64::INFINITY] {
        let (mut matrix, mut gain) = (Held::new(1.0, &[0.5, 0.25]), Held::new(2.0, &[bad]));
        let before = [matrix.values(), gain.values()].map(|values| format!("{values:?}"));
        let outcome = run(&config(), &mut matrix, &mut gain, 1);
        assert_eq!(outcome, Update::Skipped { parameter: "gain".into() });
        assert_eq!([matrix.values(), gain.values()].map(|values| format!("{values:?}")), before);
    }
}

#[test]
fn the_schedule_scales_the_learning_rate() {
    let schedule = Schedule { warmup_steps: 4, ..Schedule::default() };
    let config = OptimizerConfig { schedule, ..config() };
    let outcome = run(&config, &mut Held::new(1.0, &[0.1]), &mut Held::new(1.0, &[0.1]), 1);
    assert!(matches!(outcome, Update::Applied { lr: 0.0025, .. }), "{outcome:?}");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let default = OptimizerConfig::default();
    assert!(default.check().is_ok());
    let broken = [
        ("lr", OptimizerConfig { lr: 0.0, ..default }),
        ("lr", OptimizerConfig { lr: f64::NAN, ..default }),
        ("beta1", OptimizerConfig { beta1: 1.0, ..default }),
        ("beta2", OptimizerConfig { beta2: -0.1, ..default }),
        ("eps", OptimizerConfig { eps: 0.0, ..default }),
        ("weight_decay", OptimizerConfig { weight_decay: -1.0, ..default }),
        ("max_norm", OptimizerConfig { max_norm: f64::INFINITY, ..default }),
    ];
    for (setting, config) in broken {
        let error = config.check().expect_err(setting);
        assert!(error.to_string().starts_with(&format!("optimizer.{setting} = ")), "{error}");
    }
    assert!(toml::from_str::<OptimizerConfig>("learning_rate = 1").is_err());
}

#[test]
fn every_state_dtype_is_checked() {
    let mut w = Tensor::zeros(DType::BF16, dims![N: 2]);
    let [g, mut m, mut v] = [(); 3].map(|()| Tensor::zeros(DType::BF16, dims![N: 2]));
    let param =
        Param { w: w.view_mut(), g: g.view(), m: m.view_mut(), v: v.view_mut(), scales: None, master: None };
    let parameters = [Parameter { name: "w", param, decay: Decay::Yes, rounding: Rounding::Nearest }];
    assert!(update(&stream(), &config(), 1, parameters).is_err());
}

#[test]
fn a_norm_above_the_limit_leaves_everything_untouched() {
    for (limit, left_out) in [(4.9, true), (5.0, false)] {
        let (mut matrix, mut gain) = (Held::new(1.0, &[3.0, 0.0]), Held::new(1.0, &[4.0]));
        let before = [matrix.values(), gain.values()];
        let parameters = [("matrix", &mut matrix), ("gain", &mut gain)].map(|(name, held)| Parameter {
            name,
            param: held.param(),
            decay: Decay::Yes,
            rounding: Rounding::Nearest,
        });
        let outcome = update_up_to(limit, &stream(), &config(), 1, parameters).expect("shapes fit");
        let refused = Update::LeftOut { what: Measure::GradientNorm, value: 5.0, limit };
        assert_eq!(outcome == refused, left_out, "{outcome:?}");
        assert_eq!([matrix.values(), gain.values()] == before, left_out);
    }
}
