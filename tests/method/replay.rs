//! Recorded judgements through the program: TRL's and verl's numbers, and those of the run that recorded them.

use std::fs::{self, File};
use std::path::Path;

use patarm::record::{JudgedRollout, PolicyColumns, ReplayWriter, Side};
use serde_json::Value;

use crate::golden::{Batch, Case, assert_close, golden};
use crate::program::{Ended, Home, patarm};
use crate::small_run::Ear;
use crate::writer::{run, setup, value};

/// A batch as a file of rollouts, for one of its cases.
fn lines(batch: &Batch, case: &Case) -> Vec<JudgedRollout> {
    let inputs = &batch.inputs;
    let line = |(i, reward): (usize, &Option<f64>)| {
        let behaviour = if case.on_policy { &inputs.logprob } else { &inputs.old_logprob };
        let policy = PolicyColumns {
            logprob: batch.column(&inputs.logprob, i),
            entropy: batch.column(&inputs.entropy, i),
        };
        JudgedRollout {
            pair: format!("pair {i}"),
            side: Side::Chosen,
            text: String::new(),
            score: None,
            failure: None,
            reward: *reward,
            rollout: batch.rollout(i, behaviour),
            reference: Some(batch.column(&inputs.reference_logprob, i)),
            policy: (!case.on_policy).then_some(policy),
        }
    };
    batch.rewards.iter().enumerate().map(line).collect()
}

fn write(path: &str, lines: &[JudgedRollout]) {
    let mut writer = ReplayWriter::new(File::create(path).unwrap(), Path::new(path));
    lines.iter().for_each(|line| writer.write(line).unwrap());
    writer.finish().unwrap();
}

/// `patarm replay` of these lines under a case's settings.
fn replayed(home: &Home, lines: &[JudgedRollout], case: &Case) -> Ended {
    let file = home.path("rollouts.jsonl");
    write(&file, lines);
    let mut arguments = vec!["replay".to_owned(), file];
    for (name, value) in &case.settings {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        arguments.extend([format!("--rl.{name}"), text]);
    }
    patarm(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn numbers(of: &Value) -> Vec<f64> {
    of.as_array().unwrap().iter().map(|x| x.as_f64().unwrap_or(0.0)).collect()
}

#[test]
fn every_variant_equals_trl_and_verl_from_rewards_to_slopes() {
    let (home, mut compared, mut clipped) = (Home::new(), 0, 0);
    for batch in golden().batches {
        for case in &batch.cases {
            let what = format!("{} of {}", case.name, batch.name);
            let step = replayed(&home, &lines(&batch, case), case).well();
            assert_eq!(step["grad_norm"], Value::Null, "{what}: there are no weights");
            assert_close(&what, &[step["loss"].as_f64().unwrap()], &[case.loss]);
            let judgements = step["judgements"].as_array().unwrap();
            let advantages: Vec<f64> =
                judgements.iter().map(|j| j["advantage"].as_f64().unwrap_or(0.0)).collect();
            assert_close(&what, &advantages, &case.advantages);
            for (judgement, theirs) in judgements.iter().zip(&case.d_logprob) {
                assert_close(&what, &numbers(&judgement["slopes"]), theirs);
                let on_policy = numbers(&judgement["ratios"]).iter().all(|ratio| *ratio == 1.0);
                assert_eq!(on_policy, case.on_policy || theirs.is_empty(), "{what}");
            }
            compared += 1;
            clipped += usize::from(numbers(&step["clipped"]).iter().sum::<f64>() > 0.0);
        }
    }
    assert_eq!(compared, 36, "every case was compared");
    assert!(clipped > 25, "clipping takes part in the comparison: {clipped}");
}

#[test]
fn a_planted_error_in_one_reward_is_noticed() {
    let (home, golden) = (Home::new(), golden());
    let (batch, case) = (&golden.batches[0], &golden.batches[0].cases[0]);
    let mut lines = lines(batch, case);
    lines[2].reward = lines[2].reward.map(|reward| reward + 1e-8);
    let loss = replayed(&home, &lines, case).well()["loss"].as_f64().unwrap();
    assert!(std::panic::catch_unwind(|| assert_close("planted", &[loss], &[case.loss])).is_err());
}

/// Every step of a run replayed with the weights it began with, and what the run said of it.
fn replayed_run(changes: &str) -> Vec<(Value, patarm::report::Row)> {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear::default();
    let settings = "rl.record_every = 1\ncheckpoint.every = 1\ncheckpoint.keep = 9";
    run(home.path(), &format!("{settings}\n{changes}")).train(&mut ear).unwrap();
    let rows = ear.rows.into_iter().map(|row| {
        let before = match row.step {
            1 => setup().folder.as_ref().unwrap().path().to_owned(),
            step => home.path().join(format!("checkpoints/step-{:08}", step - 1)),
        };
        let (run, before, step) =
            (home.path().to_str().unwrap(), before.to_str().unwrap(), row.step.to_string());
        (patarm(&["replay", run, "--model", before, "--step", &step]).well(), row)
    });
    rows.collect()
}

#[test]
fn a_runs_steps_replayed_have_the_loss_and_the_gradient_norm_of_its_metrics_to_the_bit() {
    let dapo = "rl.loss = { loss = \"dapo\", kl = 0.05, kl_form = \"k2\", entropy = 0.01 }
rl.advantage = { estimator = \"reinforce_plus_plus\" }
rl.reward_kl = { coefficient = 0.1 }
reward.overlong = { cache = 4 }
rl.leaf_tokens = 200";
    for (name, changes) in [("grpo", ""), ("dapo and all that goes with it", dapo)] {
        let mut moved = 0;
        for (replayed, row) in replayed_run(changes) {
            let what = format!("{name}, step {}", row.step);
            assert_eq!(replayed["step"], row.step, "{what}");
            assert_eq!(replayed["loss"].as_f64(), Some(value(&row, "loss")), "{what}");
            assert_eq!(replayed["grad_norm"].as_f64(), Some(value(&row, "grad_norm")), "{what}");
            assert_eq!(replayed["kl_penalty"].as_f64(), Some(value(&row, "reward/kl_penalty")), "{what}");
            assert_eq!(replayed["largest_gap"], 0.0, "{what}: measured anew, it is what sampling stored");
            moved += usize::from(value(&row, "grad_norm") > 0.0);
        }
        assert!(moved >= 3, "{name}: {moved} steps learned something");
    }
}

#[test]
fn other_weights_than_those_that_drew_a_step_show_in_its_ratios() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), "rl.record_every = 3").train(&mut Ear::default()).unwrap();
    let files: Vec<_> = fs::read_dir(home.path().join("rollouts")).unwrap().collect();
    assert_eq!(files.len(), 2, "steps 1 and 4");
    let folder = home.path().to_str().unwrap();
    let first = setup().folder.as_ref().unwrap().path().to_str().unwrap().to_owned();
    let step = patarm(&["replay", folder, "--model", &first, "--step", "4"]).well();
    assert!(step["largest_gap"].as_f64().unwrap() > 0.0 && step["ratio"] != 1.0, "{}", step["ratio"]);
    let none = patarm(&["replay", folder, "--step", "3"]);
    none.refused(2, &["holds no step 3: there are 1, 4"]);
    let alone = patarm(&["replay", folder, "--step", "4"]).well();
    assert_eq!((alone["ratio"].as_f64(), alone["weights_version"].as_u64()), (Some(1.0), Some(3)));
}

#[test]
fn records_that_no_step_could_have_drawn_are_refused_with_their_place() {
    let (home, golden) = (Home::new(), golden());
    let (batch, case) = (&golden.batches[0], &golden.batches[0].cases[0]);
    let refused = |change: &dyn Fn(&mut Vec<JudgedRollout>), arguments: &[&str], code, hints: &[&str]| {
        let (mut lines, file) = (lines(batch, case), home.path("broken.jsonl"));
        change(&mut lines);
        write(&file, &lines);
        patarm(&[&["replay", &file], arguments].concat()).refused(code, hints);
    };
    refused(&|lines| lines.swap(0, 5), &[], 3, &["broken.jsonl", "group", "does not stand together"]);
    refused(&|lines| lines[3].rollout.sampling.temperature = 0.5, &[], 3, &["pair 3", "temperature"]);
    let no_reference = |lines: &mut Vec<JudgedRollout>| lines[1].reference = None;
    refused(&no_reference, &["--rl.loss.kl", "0.1"], 3, &["no reference log-probabilities"]);
    let model = setup().folder.as_ref().unwrap().path().to_str().unwrap().to_owned();
    let stranger = |lines: &mut Vec<JudgedRollout>| lines[0].rollout.completion[0].0 = 100_000;
    refused(&stranger, &["--model", &model], 3, &["pair 0", "token 100000"]);
    refused(&|_| (), &["--rl.loss.klx", "0.1"], 2, &["klx"]);
    refused(&|_| (), &["--model", "nowhere"], 4, &["--model nowhere"]);
    let file = home.file("cut.jsonl", "{\"pair\": ");
    patarm(&["replay", &file]).refused(3, &["cut.jsonl:1"]);
    patarm(&["replay", &home.path("absent")]).refused(3, &["absent"]);
}
