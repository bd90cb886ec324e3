//! Several updates on one step's judgements.

use std::ops::ControlFlow;

use patarm::grpo::{Advantage, Group, Life, Packed, Scored, TrainBatch};
use patarm::ops::head;
use patarm::optimizer::Update;
use patarm::qwen3::Keep;
use patarm::record::{Rollout, Sampling, SeedKey};
use patarm::reward::ParConfig;
use patarm::rollout::{Engine, Sampler};
use patarm::tensor::Arena;
use patarm::trainer::step::Method;
use patarm::trainer::updates::{self, Updated};
use patarm::trainer::{Gate, Learner, Pass, PassLimits, Stop, TrainConfig, log_probabilities};

use crate::small_run::{Ear, state};
use crate::writer::{self, config, rows, run, setup, value};

const TWICE_TWO: &str = "rl.epochs = 2\nrl.minibatches = 2";

fn memory(learner: &Learner) -> Arena {
    Arena::new("phase", learner.stream.device(), 1 << 27)
}

/// Four judgements of both sides of two pairs, as a step samples them.
fn rollouts(learner: &Learner, config: &TrainConfig) -> Vec<Rollout> {
    let prompts = setup().data.train[..2].iter().flat_map(|prepared| prepared.prompts.clone());
    let requests = prompts.enumerate().map(|(group, prompt)| {
        let group = group as u32;
        let seeds = (0..4).map(|sample| SeedKey { run: 3, step: 0, group, sample }).collect();
        setup().judge.request(prompt, group, seeds, Sampling::default())
    });
    let model = &learner.model;
    let engine =
        Engine::new(&model.config, model.dtype, config.rollout.limits(), &mut memory(learner)).unwrap();
    let mut sampler = Sampler { stream: &learner.stream, model, weights_version: learner.version, engine };
    sampler.generate(&requests.collect::<Vec<_>>(), &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// Groups of four, in which the first two did well.
fn groups(rollouts: &[Rollout]) -> Vec<Group<'_>> {
    let scored = |(i, rollout)| {
        let advantage = Some(Advantage(if i < 2 { 1.0 } else { -1.0 }));
        Scored { rollout, advantage, reference: None }
    };
    rollouts
        .chunks(4)
        .map(|of| Group { rollouts: of.iter().enumerate().map(scored).collect(), life: Life::Alive })
        .collect()
}

fn learn(learner: &mut Learner, config: &TrainConfig, batches: &[TrainBatch]) -> Vec<Updated> {
    let method = Method {
        judge: &setup().judge,
        rollout: &config.rollout,
        reward: &ParConfig::default(),
        rl: &config.rl,
        seed: 3,
        gate: Gate::OPEN,
        stop: Stop::NEVER,
    };
    let mut memory = memory(learner);
    updates::learn(learner, method, batches, 0, &mut memory).unwrap()
}

fn weights(learner: &Learner) -> Vec<Vec<f64>> {
    learner.model.params.iter().map(|(_, tensor)| tensor.view().to_f64()).collect()
}

#[test]
fn what_sampling_stored_is_taken_for_the_first_update_alone_and_equals_what_is_measured_to_the_bit() {
    let config = config(TWICE_TWO);
    let [mut learner, mut again] = [(); 2].map(|()| writer::learner());
    let mut rollouts = rollouts(&learner, &config);
    let batches = updates::pack(&groups(&rollouts), &config.rl).unwrap();
    assert_eq!(batches.len(), 2);
    let taken = learn(&mut learner, &config, &batches);
    rollouts.iter_mut().for_each(|rollout| rollout.weights_version = 77);
    let measured = learn(&mut again, &config, &updates::pack(&groups(&rollouts), &config.rl).unwrap());
    assert_eq!((taken.len(), learner.version), (4, 4));
    for (taken, measured) in taken.iter().zip(&measured) {
        assert_eq!((taken.sums, &taken.update), (measured.sums, &measured.update));
    }
    assert_eq!(weights(&learner), weights(&again));
    assert_eq!(taken[0].sums.largest_gap, 0.0);
    assert!(taken[1..].iter().all(|later| later.sums.largest_gap > 1e-6), "{taken:?}");
}

#[test]
fn the_ratios_of_the_second_update_are_those_of_the_weights_after_the_first() {
    let config = config(TWICE_TWO);
    let [mut learner, mut once] = [(); 2].map(|()| writer::learner());
    let rollouts = rollouts(&learner, &config);
    let batches = updates::pack(&groups(&rollouts), &config.rl).unwrap();
    let updates = learn(&mut learner, &config, &batches);
    learn(&mut once, &writer::config("rl.epochs = 1"), &batches[..1]);
    let leaf = Packed::join(&batches[1].leaves);
    let limits = PassLimits { rows: 1024, targets: 1024, tile: 512, keep: Keep::Nothing };
    let (model, mut arena) = (&once.model, memory(&once));
    let mut pass = Pass::new(&model.config, model.dtype, limits, &mut arena).unwrap();
    let scale = head::inverse_temperature(1.0);
    let now = log_probabilities(&once.stream, model, &leaf, scale, &mut pass).unwrap();
    let ratios = now.iter().zip(&leaf.behaviour).map(|(now, then)| (now - f64::from(*then)).exp());
    let (sum, found) = (ratios.sum::<f64>(), updates[1].sums.ratio);
    assert!((sum - found).abs() < 1e-4 && (sum - now.len() as f64).abs() > 1e-2, "{sum} and {found}");
}

#[test]
fn a_run_of_several_updates_a_step_counts_them_and_resumes_to_the_bit() {
    let [whole, broken] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (steps, _) = rows(run(whole.path(), TWICE_TWO)).unwrap();
    assert!(steps.iter().all(|row| value(row, "on_policy_gap") == 0.0));
    assert!(steps.iter().any(|row| value(row, "ratio/mean") != 1.0));
    let mut ear = Ear { stop_after: Some(2), ..Ear::default() };
    run(broken.path(), TWICE_TWO).train(&mut ear).unwrap();
    assert_eq!(ear.rows.len(), 2);
    run(broken.path(), TWICE_TWO).resumed(&[]).train(&mut Ear::default()).unwrap();
    assert_eq!(state(whole.path()), state(broken.path()));
    let once = tempfile::tempdir().unwrap();
    run(once.path(), "").train(&mut Ear::default()).unwrap();
    assert_ne!(state(once.path()), state(whole.path()));
}

#[test]
fn the_schedule_and_the_bias_correction_count_updates() {
    let changes = "rl.optimizer = { lr = 0.001, schedule = { shape = \"cosine\" } }";
    assert_eq!(config(changes).rl.optimizer.schedule.total_steps, 4);
    let config = config(&format!("{TWICE_TWO}\n{changes}"));
    assert_eq!(config.rl.optimizer.schedule.total_steps, 16);
    let mut learner = writer::learner();
    let rollouts = rollouts(&learner, &config);
    let batches = updates::pack(&groups(&rollouts), &config.rl).unwrap();
    let rates: Vec<f64> = learn(&mut learner, &config, &batches)
        .iter()
        .map(|updated| match updated.update {
            Update::Applied { lr, .. } => lr,
            ref left_out => panic!("{left_out:?}"),
        })
        .collect();
    let expected: Vec<f64> =
        (1..=4).map(|number| 0.001 * config.rl.optimizer.schedule.factor(number)).collect();
    assert_eq!(rates, expected);
    assert!(rates.windows(2).all(|pair| pair[0] > pair[1]));
}

#[test]
fn epochs_and_minibatches_that_make_no_whole_updates_are_refused_by_name() {
    for (changes, hint) in
        [("rl.epochs = 0", "rl.epochs: 0"), ("rl.minibatches = 0", "rl.minibatches: 0 does not")]
    {
        assert!(config(changes).check().unwrap_err().to_string().starts_with(hint));
    }
    let error = config("rl.pairs = 6\nrl.minibatches = 4").check().unwrap_err().to_string();
    assert!(error.contains("4 does not divide rl.pairs = 6"), "{error}");
    config("rl.pairs = 6\nrl.minibatches = 3").check().unwrap();
}
