//! Rows 8, 21, 25 and 28 for what the optimizer keeps: settings that do not fit, and runs that go on to the bit.

use patarm::checkpoint::SavedState;
use patarm::trainer::TrainConfig;

use crate::memory::plan;
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
fn row_25_moments_of_8_bits_resume_to_the_same_bits_and_leave_those_of_gains_wide() {
    for rounding in ["nearest", "stochastic"] {
        let names = kept_through_resumes(&format!("rounding = \"{rounding}\", moments = \"8-bit\""));
        let has = |name: &str| names.iter().any(|held| held == name);
        for moment in ["first", "second"] {
            assert!(has(&format!("{moment}.model.embed_tokens.weight.scales")), "{names:?}");
            assert!(has(&format!("{moment}.model.norm.weight")), "{names:?}");
            assert!(!has(&format!("{moment}.model.norm.weight.scales")), "{names:?}");
        }
    }
}

#[test]
fn row_28_a_run_does_not_go_on_with_moments_of_another_kind() {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear { stop_after: Some(3), ..Ear::default() };
    Small::new(home.path(), &settings("moments = \"f32\"")).train(&mut ear).unwrap();
    let coded = settings("moments = \"8-bit\"");
    let refused = Small::new(home.path(), &coded).resumed(&[]).train(&mut Ear::default()).unwrap_err();
    assert!(refused.to_string().contains("rl.optimizer.moments: \"f32\" -> \"8-bit\""), "{refused}");
    let allowed = ["rl.optimizer.moments", "sft.optimizer.moments"];
    let refused = Small::new(home.path(), &coded).resumed(&allowed).train(&mut Ear::default()).unwrap_err();
    assert!(refused.to_string().contains("first.model.embed_tokens.weight"), "{refused}");
}

#[test]
fn row_21_the_plan_counts_what_the_optimizer_keeps() {
    let model = |optimizer: &str| plan(&settings(optimizer)).model;
    let wide = model("moments = \"f32\"");
    // Of the small shape: elements of matrices, and of gains. Every tensor takes whole lines of 64 bytes.
    let (matrices, gains, line) =
        ([875 * 8, 64, 64, 64, 64, 64, 64, 64], [8; 5], |bytes: usize| bytes.next_multiple_of(64));
    let saved = |n: usize| 2 * (line(4 * n) - line(n) - line(4 * n.div_ceil(256)));
    assert_eq!(wide - model("moments = \"8-bit\""), matrices.map(saved).iter().sum::<usize>());
    let master = matrices.iter().chain(&gains).map(|n| line(4 * n)).sum::<usize>();
    assert_eq!(wide - model("rounding = \"stochastic\""), master);
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
    let text = refused(&both.replace(
        "{ lr = 0.01, rounding = \"stochastic\" }\nrl",
        "{ rounding = \"stochastic\", moments = \"8-bit\" }\nrl",
    ));
    assert!(text.contains("sft.optimizer.moments"), "{text}");
    let text = refused(&both.replace("bf16", "f32"));
    assert!(text.contains("rl.optimizer.rounding") && text.contains("model.dtype"), "{text}");
    assert!(
        config("model.dtype = \"bf16\"\nsft.steps = 0\nrl.optimizer = { rounding = \"stochastic\" }")
            .check()
            .is_ok()
    );
}
