//! Row 21: memory that does not suffice.

use std::path::Path;

use patarm::device::{Device, DeviceChoice, Stream};
use patarm::tensor::ArenaError;
use patarm::trainer::{Clock, Plan, Run, TrainError};

use crate::program::{Home, patarm, within};
use crate::small_run::{Ear, Small, config, setup, state, unbroken};

const MIB: usize = 1 << 20;

pub(crate) fn plan(changes: &str) -> Plan {
    let (device, config) = (Device::open(DeviceChoice::Cpu, 1).unwrap(), config(changes));
    device.clone().enter(|| Run::new(&config, setup(), Stream::new(device), Clock(|| 0.0)).unwrap().plan())
}

#[test]
fn row_21_with_too_little_memory_the_same_steps_are_made_in_halved_micro_batches_to_the_same_bits() {
    let (whole, eighth) = (plan("rl.leaves = 256"), plan("rl.leaves = 32"));
    assert!(whole.phase > 2 * eighth.phase, "{whole:?} {eighth:?}");
    let budget = (eighth.model + eighth.phase).div_ceil(MIB);
    let changes = format!("rl.leaves = 256\nmemory.budget_mib = {budget}");
    let taken = plan(&changes);
    assert_eq!((taken.leaves, taken.asked, taken.phase), (32, 256, eighth.phase));
    assert!(
        taken.to_string().contains("micro-batches of 32 leaves, as 256 (rl.leaves) do not fit"),
        "{taken}"
    );
    let home = tempfile::tempdir().unwrap();
    Small::new(home.path(), &changes).train(&mut Ear::default()).unwrap();
    assert_eq!(&state(home.path()), unbroken());
}

#[test]
fn row_21_where_not_even_one_leaf_fits_the_run_ends_with_5_before_the_first_step() {
    let home = tempfile::tempdir().unwrap();
    let result = Small::new(home.path(), "rl.leaves = 8\nmemory.budget_mib = 1").train(&mut Ear::default());
    let Err(TrainError::TooLittleMemory { source: ArenaError::Refused { .. } }) = result else {
        panic!("{result:?}");
    };
    let home = Home::new();
    let train = ["train", "--out", &home.path("run"), "--memory.budget_mib", "1"];
    patarm(&train).refused(5, &["memory.budget_mib allows 1048576", "rl.leaf_tokens", "patarm plan"]);
}

#[test]
fn row_21_memory_that_the_system_refuses_halves_the_micro_batch_and_the_plan_is_told_before_the_start() {
    let home = Home::new();
    let short = ["--sft.steps", "2", "--sft.rows", "4", "--rl.steps", "0", "--rl.leaf_tokens", "256"];
    let few = ["--evaluation.validation_pairs", "2", "--evaluation.held_out_pairs", "2"];
    let needs = |leaves: &str| {
        let needs = patarm(&["plan", "--rl.leaf_tokens", "256", "--rl.leaves", leaves]).well();
        let bytes = |name: &str| needs["memory"][name].as_u64().unwrap() as usize;
        (bytes("model") + bytes("phase")) / MIB
    };
    let (free, narrow) = (home.path("free"), home.path("narrow"));
    patarm(&[&["train", "--out", &free], &short[..], &few].concat()).well();
    let limit = needs("512") + 1024; // what the rest of the program needs besides
    assert!(needs("8192") > limit + 1024, "{} {limit}", needs("8192"));
    let many = ["--rl.leaves", "8192"];
    let ended = within([limit, 200], &[&["train", "--out", &narrow], &short[..], &few, &many].concat());
    ended.well();
    let told = ended.talk.lines().find(|line| line.starts_with("memory: ")).unwrap();
    assert!(told.contains("as 8192 (rl.leaves) do not fit"), "{told}");
    assert_eq!(state(Path::new(&free)), state(Path::new(&narrow)));
}
