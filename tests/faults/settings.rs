//! Row 8: settings that cannot be used.

use crate::program::{Home, patarm};

/// Every second line is wrong.
const WRONG: &str = "\
seed = 3
sped = 4
[rl]
steps = \"many\"
pairs = 9
minibatches = 2
[rl.optimizer]
lr = -1.0
beta2 = 0.9
betta = 0.9
[sft.optimizer]
lr = 0.0
[rollout]
samples = 4
kv_block = 3
[reward.margin]
kind = \"constant\"
value = -2.0
[rl.loss]
clip_low = -0.5
";

#[test]
fn row_08_all_settings_that_cannot_be_used_are_told_in_one_report_each_with_its_place() {
    let home = Home::new();
    let file = home.file("run.toml", WRONG);
    let flags = ["--rl.epochs", "0", "--rl.stepz", "3", "--evaluation.every", "often", "--guard.z", "-1"];
    let ended = patarm(&[&["train", "--config", &file, "--out", &home.path("run")], &flags[..]].concat());
    let places = [
        "run.toml:2: unknown field `sped`",
        "run.toml:4: invalid type",
        "run.toml:6: rl.minibatches: 2 does not divide rl.pairs = 9",
        "run.toml:8: rl.optimizer.lr: -1: it must be",
        "run.toml:10: unknown field `betta`",
        "run.toml:12: sft.optimizer.lr: 0: it must be",
        "run.toml:15: unknown field `kv_block`",
        "run.toml:18: reward.margin.value: -2: it must be",
        "run.toml:20: loss.clip_low = -0.5: it must be",
        "--rl.epochs: rl.epochs: 0",
        "--rl.stepz: unknown field `stepz`",
        "--evaluation.every: invalid type",
        "--guard.z: guard.z: it must be at least 0",
    ];
    ended.refused(2, &places);
    ended.refused(2, &[&format!("{} of the settings cannot be used", places.len())]);
    assert!(!std::path::Path::new(&home.path("run")).exists(), "nothing was begun");
}

#[test]
fn row_08_a_file_that_is_no_toml_is_told_with_its_lines() {
    let home = Home::new();
    let file = home.file("run.toml", "seed = 3\n[rl\nsteps = = 4\n");
    patarm(&["train", "--config", &file, "--print-config"]).refused(2, &["run.toml:2: ", "run.toml:3: "]);
}

#[test]
fn row_08_another_kind_takes_the_place_of_the_default_one_in_a_file_and_on_the_command_line() {
    let home = Home::new();
    let file = home.file("run.toml", "[reward.margin]\nkind = \"constant\"\n");
    let told = patarm(&["train", "--config", &file, "--print-config"]);
    assert_eq!(told.code, Some(0), "{}", told.talk);
    assert!(told.out.contains("[reward.margin]\nkind = \"constant\"\nvalue = 1.2"), "{}", told.out);
    let typed = ["--reward.margin.slope", "0.25", "--reward.margin.kind", "linear"];
    let told = patarm(&[&["train", "--config", &file, "--print-config"], &typed[..]].concat());
    assert_eq!(told.code, Some(0), "{}", told.talk);
    assert!(told.out.contains("kind = \"linear\"") && told.out.contains("slope = 0.25"), "{}", told.out);
    let step = home.file("step.toml", "[reward.margin]\nstep = 3.0\n");
    let told = patarm(&["train", "--config", &step, "--print-config"]);
    assert!(told.out.contains("kind = \"graded\"") && told.out.contains("step = 3.0"), "{}", told.talk);
}
