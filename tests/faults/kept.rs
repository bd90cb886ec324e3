//! Rows 8 and 25 for what the optimizer keeps: settings that do not fit, and runs that go on to the bit.

use patarm::checkpoint::SavedState;
use patarm::trainer::TrainConfig;

use crate::small_run::{Ear, Small, checkpoints, config, state};

/// bf16 weights, and an optimizer of both phases with these settings.
fn settings(optimizer: &str) -> String {
    format!(
        "model.dtype = \"bf16\"\nsft.optimizer = {{ lr = 0.01, {optimizer} }}\nrl.optimizer = {{ lr = 0.01, {optimizer} }}"
    )
}

/// Names of the state's tensors after a whole run, which one that is broken off twice and resumed ends with to the bit.
fn kept_through_resumes(optimizer: &str) -> Vec<String> {
    let changes = settings(optimizer);
    let whole = tempfile::tempdir().unwrap();
    Small::new(whole.path(), &changes).train(&mut Ear::default()).unwrap();
    let broken = tempfile::tempdir().unwrap();
    let mut ear = Ear { stop_after: Some(3), ..Ear::default() };
    Small::new(broken.path(), &changes).train(&mut ear).unwrap();
    let mut ear = Ear { stop_after: Some(6), ..Ear::default() };
    Small::new(broken.path(), &changes).resumed(&[]).train(&mut ear).unwrap();
    Small::new(broken.path(), &changes).resumed(&[]).train(&mut Ear::default()).unwrap();
    assert!(state(broken.path()) == state(whole.path()), "{optimizer}");
    let newest = checkpoints(whole.path()).pop().unwrap();
    SavedState::open(&newest).unwrap().names().map(str::to_owned).collect()
}

#[test]
fn row_25_weights_that_are_rounded_stochastically_keep_no_master_copy_and_resume_to_the_same_bits() {
    let names = kept_through_resumes("rounding = \"stochastic\"");
    assert!(names.iter().all(|name| !name.starts_with("master.")), "{names:?}");
    let names = kept_through_resumes("rounding = \"nearest\"");
    assert!(names.iter().any(|name| name.starts_with("master.")), "{names:?}");
}

#[test]
fn row_08_what_the_optimizers_keep_is_checked_before_the_start() {
    let refused = |changes: &str| {
        let config: TrainConfig = config(changes);
        config.check().unwrap_err().to_string()
    };
    let text = refused("model.dtype = \"bf16\"\nrl.optimizer = { rounding = \"stochastic\" }");
    assert!(text.contains("sft.optimizer.rounding") && text.contains("rl.optimizer.rounding"), "{text}");
    let both = settings("rounding = \"stochastic\"");
    assert!(config(&both).check().is_ok());
    let text = refused(&both.replace("bf16", "f32"));
    assert!(text.contains("rl.optimizer.rounding") && text.contains("model.dtype"), "{text}");
    assert!(
        config("model.dtype = \"bf16\"\nsft.steps = 0\nrl.optimizer = { rounding = \"stochastic\" }")
            .check()
            .is_ok()
    );
}
