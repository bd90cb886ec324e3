//! Rows 12 to 14 and 21: steps that go wrong.

use std::fs;

use crate::small_run::{Ear, Small, checkpoints};

#[test]
fn row_14_where_every_group_has_equal_rewards_nothing_is_learned_and_the_share_is_logged() {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear::default();
    // Four tokens are never a judgement: in the first step all fail alike and earn the same.
    let changes = "rl.loss = { kl = 0.0 }\nevaluation.every = 1\ncheckpoint.keep = 9";
    Small::new(home.path(), changes).train(&mut ear).unwrap();
    let first = ear.rows.iter().find(|row| row.phase == "rl").unwrap();
    assert!(first.values.contains(&("frac_reward_zero_std".into(), 1.0)), "{first:?}");
    let all = checkpoints(home.path());
    let weights = |step: u64| {
        let folder = all.iter().find(|path| path.ends_with(format!("step-{step:08}"))).unwrap();
        fs::read(folder.join("model.safetensors")).unwrap()
    };
    assert_eq!(weights(first.step - 1), weights(first.step));
}
