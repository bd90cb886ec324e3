use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{print_out, say};
use crate::checkpoint::{
    self, CheckpointError, Layout, MARKER, ModelFolder, SavedState, Stored, TensorDifference,
};
use crate::qwen3::{Config, LowRank};
use crate::trainer::TrainError;

/// Look at checkpoints: whether they are sound, and how two of them differ.
#[derive(Debug, Args)]
pub(super) struct Ckpt {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Verify(Verify),
    Diff(Diff),
}

/// Hold checkpoints against what was written: marker, hashes, shapes, finite values.
#[derive(Debug, Args)]
#[command(after_help = "\
In:   a run folder, its folder of checkpoints, or one checkpoint
Out:  one JSON line a checkpoint, oldest first: {\"checkpoint\": .., \"sound\": true, \"bytes\": ..}, or \"sound\": false and \"why\"
Exit: 0 if all are sound, 4 if one is not

Example:  patarm ckpt verify runs/train")]
struct Verify {
    /// The folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Compare two checkpoints or model folders: settings and counters key by key, tensors bit by bit.
#[derive(Debug, Args)]
#[command(after_help = "\
Out:  one JSON object: \"equal\"; \"facts\", dotted name to both values; \"tensors\", name to how it differs: elements whose bits
      differ, the largest difference of two values (null where a value is NaN), or both forms
Exit: 0 if they are equal, 1 if they differ, 4 if one can't be read

Example:  patarm ckpt diff runs/a/checkpoints/step-00000100 runs/b/checkpoints/step-00000100")]
struct Diff {
    /// The first.
    #[arg(value_name = "A")]
    first: PathBuf,
    /// The second.
    #[arg(value_name = "B")]
    second: PathBuf,
}

impl Ckpt {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Verify(verify) => verify.run(),
            What::Diff(diff) => diff.run(),
        }
    }
}

impl Verify {
    fn run(self) -> Result<ExitCode> {
        let mut worst = None;
        for folder in checkpoints(&self.folder)? {
            let shown = folder.display().to_string();
            match sound(&folder) {
                Ok(bytes) => {
                    print_out(&json!({"checkpoint": shown, "sound": true, "bytes": bytes}).to_string())?
                }
                Err(why) => {
                    say(&format!("{why}"));
                    print_out(
                        &json!({"checkpoint": shown, "sound": false, "why": why.to_string()}).to_string(),
                    )?;
                    worst = Some(ExitCode::from(super::exit::MODEL));
                }
            }
        }
        Ok(worst.unwrap_or(ExitCode::SUCCESS))
    }
}

fn sound(folder: &Path) -> Result<u64, TrainError> {
    let bytes = checkpoint::inspect(folder)?;
    let layout = Layout::of(folder);
    let opened = ModelFolder::open_as(folder, layout)?;
    match layout {
        Layout::Model => Config::of(&opened)?.check_folder(&opened)?,
        Layout::Adapter => drop(LowRank::of(&opened)?),
    }
    Ok(bytes)
}

/// The folder itself where it looks like a checkpoint, else the checkpoints below it, by name.
fn checkpoints(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let single = folder.join(MARKER).exists() || folder.join("config.json").exists();
    if single {
        return Ok(vec![folder.to_owned()]);
    }
    let below = folder.join("checkpoints");
    let place = if below.is_dir() { below } else { folder.to_owned() };
    let fault = |source| CheckpointError::Io { path: place.clone(), doing: "read it", source };
    let mut found = Vec::new();
    for entry in place.read_dir().map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-"));
        found.extend((named && path.is_dir()).then_some(path));
    }
    found.sort();
    match found.is_empty() {
        true => Err(CheckpointError::Incomplete { path: folder.to_owned() }.into()),
        false => Ok(found),
    }
}

impl Diff {
    fn run(self) -> Result<ExitCode> {
        let [first, second] = [&self.first, &self.second];
        let facts = differing(&facts(first)?, &facts(second)?);
        let tensors = checkpoint::compare(first, second).map_err(TrainError::from)?;
        let equal = facts.is_empty() && tensors.is_empty();
        let tensors: serde_json::Map<String, Value> =
            tensors.into_iter().map(|(name, difference)| (name, shown(difference))).collect();
        print_out(&json!({ "equal": equal, "facts": facts, "tensors": tensors }).to_string())?;
        Ok(if equal { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn shown(difference: TensorDifference) -> Value {
    let form = |(stored, shape): (Stored, Vec<u64>)| json!({ "dtype": stored.name(), "shape": shape });
    match difference {
        TensorDifference::OnlyFirst => json!({ "only": "first" }),
        TensorDifference::OnlySecond => json!({ "only": "second" }),
        TensorDifference::Form { first, second } => json!({ "first": form(first), "second": form(second) }),
        TensorDifference::Values { elements, differing, largest } => {
            json!({ "elements": elements, "differing": differing, "largest": largest })
        }
    }
}

/// Configuration, counters and settings under dotted names.
fn facts(folder: &Path) -> Result<BTreeMap<String, Value>, TrainError> {
    let mut all = BTreeMap::new();
    flatten("model", ModelFolder::open_as(folder, Layout::of(folder))?.config_json(), &mut all);
    if folder.join("state.json").exists() {
        let mut state: Value = SavedState::open(folder)?.facts()?;
        if let Some(settings) = state["config"].as_str().and_then(|text| toml::from_str::<Value>(text).ok()) {
            state["config"] = settings;
        }
        flatten("state", &state, &mut all);
    }
    Ok(all)
}

fn flatten(name: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(below) => {
            below.iter().for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, into))
        }
        value => drop(into.insert(name.to_owned(), value.clone())),
    }
}

fn differing(
    first: &BTreeMap<String, Value>,
    second: &BTreeMap<String, Value>,
) -> BTreeMap<String, [Value; 2]> {
    let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    let both = names.into_iter().map(|name| {
        let value = |facts: &BTreeMap<String, Value>| facts.get(name).cloned().unwrap_or(Value::Null);
        (name.clone(), [value(first), value(second)])
    });
    both.filter(|(_, [a, b])| a != b).collect()
}
