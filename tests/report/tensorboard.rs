//! TensorBoard's own reader over an event file. It runs where PATARM_TENSORBOARD names a Python that has the package.

use std::process::Command;

use patarm::report::{MetricNames, MetricsLog, Note, Origin, Row, Start};
use serde_json::{Value, json};

/// Prints what the reader that feeds TensorBoard's pages finds: scalars as [step, value], texts.
const READ: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
seen = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0}).Reload()
scalars = {tag: [[e.step, e.wall_time, e.value] for e in seen.Scalars(tag)] for tag in seen.Tags()["scalars"]}
texts = {tag: [e.tensor_proto.string_val[0].decode() for e in seen.Tensors(tag)] for tag in seen.Tags()["tensors"]}
print(json.dumps({"scalars": scalars, "texts": texts}))
"#;

#[cfg_attr(not(tensorboard), ignore = "PATARM_TENSORBOARD names no Python with tensorboard")]
#[test]
fn tensorboards_reader_finds_every_scalar_and_text_also_after_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let origin = |pid| Origin { host: "here".into(), pid, time: 100.0 + f64::from(pid) };
    let row =
        |step: u64, reward: f64| Row::new(step, "rl", step as f64).with("reward", reward).with("kl", 0.25);
    let open = |pid, start| {
        MetricsLog::open(folder.path(), &origin(pid), start, MetricNames::Trl).expect("the folder is there")
    };
    let mut first = open(1, Start::Fresh);
    let note = Note { step: 0, time: 1.0, tag: "config".into(), text: "seed = 1\n".into() };
    assert!(first.note(&note).is_empty());
    for step in 1..=4 {
        assert!(first.row(&row(step, step as f64 / 8.0)).is_empty());
    }
    // The process died after step 4; its checkpoint was of step 2.
    let mut second = open(2, Start::After(2));
    for step in 3..=5 {
        assert!(second.row(&row(step, -(step as f64))).is_empty());
    }
    let found = read(&folder.path().join("tensorboard"));
    let rewards = [(1, 0.125), (2, 0.25), (3, -3.0), (4, -4.0), (5, -5.0)];
    assert_eq!(
        found["scalars"]["reward"],
        json!(rewards.map(|(step, value)| (step, f64::from(step), value)))
    );
    assert_eq!(found["scalars"]["kl"].as_array().unwrap().len(), 5);
    assert_eq!(found["texts"]["config"], json!(["seed = 1\n"]));
}

fn read(folder: &std::path::Path) -> Value {
    let Some(python) = option_env!("PATARM_TENSORBOARD") else { panic!("the test is ignored without it") };
    let output =
        Command::new(python).args(["-c", READ]).arg(folder).output().expect("the Python that was named");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}
