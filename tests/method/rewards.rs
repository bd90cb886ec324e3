//! What becomes of rewards before they are advantages: the KL term, long judgements, groups that are judged anew.

use patarm::grpo::{GrpoError, RewardKl};
use patarm::ops::grpo_loss::Kl;
use patarm::reward::SoftOverlong;

use crate::golden::{assert_close, golden};
use crate::small_run::{Ear, Small, state};
use crate::writer::{config, rows, run, value};

const SYNCHRONISED: &str = "rl.reward_kl = { coefficient = 0.1, form = \"k3\" }
rl.reference = { kind = \"synchronised\", every = 2 }";

#[test]
fn the_kl_in_the_reward_is_verls_over_the_tokens_that_were_drawn() {
    let mut compared = 0;
    for batch in golden().batches {
        for (name, form) in [("k1", Kl::K1), ("k2", Kl::K2), ("k3", Kl::K3)] {
            let term = RewardKl { coefficient: 0.3, form };
            let theirs: Vec<f64> = serde_json::from_value(batch.reward_kl[name].clone()).unwrap();
            for (i, theirs) in theirs.iter().enumerate() {
                if batch.rewards[i].is_none() {
                    continue; // a masked judgement has no reward to take from
                }
                let rollout = batch.rollout(i, &batch.inputs.old_logprob);
                let reference = batch.column(&batch.inputs.reference_logprob, i);
                let ours = term.penalty(i as u32, &rollout, Some(&reference)).unwrap();
                assert_close(&format!("{name} of sequence {i} of {}", batch.name), &[ours], &[0.3 * theirs]);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 * (12 + 11));
}

#[test]
fn a_kl_in_the_reward_without_its_reference_is_refused() {
    let batch = &golden().batches[0];
    let rollout = batch.rollout(3, &batch.inputs.old_logprob);
    let term = RewardKl { coefficient: 0.3, form: Kl::K1 };
    assert!(matches!(term.penalty(3, &rollout, None), Err(GrpoError::NoReference { sequence: 3 })));
    assert!(matches!(term.penalty(3, &rollout, Some(&[0.0])), Err(GrpoError::Columns { got: 1, .. })));
    assert_eq!(RewardKl::default().penalty(3, &rollout, None).unwrap(), 0.0);
}

#[test]
fn what_long_judgements_lose_is_trls_soft_overlong_punishment() {
    for golden in golden().overlong {
        let overlong = SoftOverlong { cache: golden.cache, limit: golden.limit, most: 1.0 };
        let ours: Vec<f64> = golden.lengths.iter().map(|&tokens| -overlong.penalty(tokens)).collect();
        assert_close(&format!("{overlong:?}"), &ours, &golden.penalties);
        assert!(ours.contains(&-1.0) && ours.iter().any(|x| *x < 0.0 && *x > -1.0));
    }
    assert_eq!(SoftOverlong { cache: 0, limit: 5, most: 1.0 }.penalty(9), 0.0);
}

#[test]
fn long_judgements_lose_reward_in_a_run() {
    let [plain, soft] = ["", "reward.overlong = { cache = 5, most = 2.0 }"].map(|changes| {
        assert_eq!(config(changes).reward.overlong.limit, 14, "the longest judgement");
        let home = tempfile::tempdir().unwrap();
        rows(run(home.path(), changes)).unwrap().0
    });
    // A judgement in the grammar has ten tokens: one over what is free.
    let mean = value(&plain[0], "completions/mean_length");
    let (before, after) = (value(&plain[0], "reward"), value(&soft[0], "reward"));
    assert!((before - after - 2.0 * (mean - 9.0) / 5.0).abs() < 1e-9, "{before}, {after}, {mean}");
}

#[test]
fn the_reference_is_renewed_every_so_many_steps_and_a_resumed_run_keeps_it_to_the_bit() {
    let [whole, broken, frozen] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let steps = rows(run(whole.path(), SYNCHRONISED)).unwrap().0;
    let taken: Vec<bool> = steps.iter().map(|row| value(row, "reward/kl_penalty") > 0.0).collect();
    assert_eq!(taken, [false, true, false, true], "after a renewal the policy is the reference, to the bit");
    for stop in [1, 3] {
        let mut ear = Ear { stop_after: Some(stop), ..Ear::default() };
        let small = run(broken.path(), SYNCHRONISED);
        let small = if stop == 1 { small } else { small.resumed(&[]) };
        small.train(&mut ear).unwrap();
        assert_eq!(ear.step, stop);
    }
    run(broken.path(), SYNCHRONISED).resumed(&[]).train(&mut Ear::default()).unwrap();
    assert_eq!(state(whole.path()), state(broken.path()));
    let steps = rows(run(frozen.path(), SYNCHRONISED.lines().next().unwrap())).unwrap().0;
    assert!(value(&steps[2], "reward/kl_penalty") > 0.0);
}

#[test]
fn a_reference_in_bf16_is_saved_with_the_rest_and_a_resumed_run_keeps_it_to_the_bit() {
    const NARROW: &str = "model.dtype = \"bf16\"\nrl.loss = { kl = 0.1 }";
    let [whole, broken] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let steps = rows(run(whole.path(), NARROW)).unwrap().0;
    assert!(value(&steps[3], "kl") > 0.0);
    run(broken.path(), NARROW).train(&mut Ear { stop_after: Some(2), ..Ear::default() }).unwrap();
    run(broken.path(), NARROW).resumed(&[]).train(&mut Ear::default()).unwrap();
    assert_eq!(state(whole.path()), state(broken.path()));
}

#[test]
fn groups_without_an_advantage_are_judged_anew_a_bounded_number_of_times() {
    let [left, anew] = ["", "rl.resample = 4"].map(|changes| {
        let home = tempfile::tempdir().unwrap();
        rows(run(home.path(), changes)).unwrap().0
    });
    let step = left.iter().position(|row| value(row, "frac_reward_zero_std") > 0.0).unwrap();
    for (left, anew) in left.iter().zip(&anew).take(step) {
        assert_eq!((value(anew, "groups/resampled"), &left.values), (0.0, &anew.values));
    }
    let (left, anew) = (&left[step], &anew[step]);
    assert!(value(anew, "frac_reward_zero_std") < value(left, "frac_reward_zero_std"));
    assert!(value(anew, "groups/resampled") >= 1.0 && value(anew, "tokens") > value(left, "tokens"));
    for name in ["reward", "score/mean", "failure_rate"] {
        assert_eq!(value(anew, name), value(left, name), "{name} is of the first judgements");
    }
    // A judge that writes nothing in the grammar: four groups, three times, and then they are left.
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear::default();
    Small::new(home.path(), "sft.steps = 0\nrl.resample = 3").train(&mut ear).unwrap();
    for row in &ear.rows {
        assert_eq!([value(row, "groups/resampled"), value(row, "frac_reward_zero_std")], [12.0, 1.0]);
        let last = value(row, "completions/mean_length") * 8.0;
        assert!(value(row, "tokens") >= last + 3.0 * 8.0, "what was given up counts as drawn");
    }
}

#[test]
fn settings_that_have_no_sense_are_refused_by_name() {
    let refused = [
        ("rl.resample = 101", "rl.resample: 101"),
        ("rl.reference = { kind = \"none\" }\nrl.loss = { kl = 0.1 }", "rl.reference: none, but rl.loss.kl"),
        ("rl.reference = { kind = \"synchronised\", every = 0 }", "rl.reference.every: 0"),
        ("rl.reward_kl = { coefficient = -1.0 }", "reward_kl.coefficient = -1"),
        ("reward.overlong = { cache = 20, limit = 14 }", "reward.overlong.cache: 20"),
        ("reward.overlong = { cache = 2, most = -1.0 }", "reward.overlong.most: -1"),
    ];
    for (changes, hint) in refused {
        let error = config(changes).check().unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    config("rl.reference = { kind = \"none\" }").check().unwrap();
    for unknown in
        ["{ kind = \"frozen\", every = 3 }", "{ kind = \"synchronised\" }", "{ kind = \"moving\" }"]
    {
        assert!(
            std::panic::catch_unwind(|| config(&format!("rl.reference = {unknown}"))).is_err(),
            "{unknown}"
        );
    }
}
