//! A judge so small that it trains in a second, which has read enough to write the output grammar.

use std::path::Path;
use std::sync::OnceLock;

use patarm::checkpoint::{LocalDisk, ModelFolder, Scan};
use patarm::demo;
use patarm::device::{Device, DeviceChoice, Stream};
use patarm::qwen3::{Config, Model};
use patarm::report::Row;
use patarm::rubric::{Score, Spacing, Verdict, format_verdict};
use patarm::tensor::{Arena, DType};
use patarm::trainer::sft::SftRow;
use patarm::trainer::{Learner, Progress, Resume, Setup, TrainConfig, TrainError};
use tempfile::TempDir;

use crate::small_run::{self, Ear, Small, checkpoints};

const SHAPE: &str = r#"{
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 875, "hidden_size": 24,
    "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
    "max_position_embeddings": 512
}"#;

/// Tokens of its judgements at most.
const LONGEST: usize = 14;

/// No cold start of its own, groups of four, no KL.
const LEARN: &str = "sft.steps = 0
rollout.samples = 4
rollout.max_new_tokens = 14
rl.optimizer = { lr = 0.001 }
rl.loss = { kl = 0.0 }
evaluation.every = 100";

/// The small settings for a judge that writes, with some changed, a dotted name a line.
pub(crate) fn config(changes: &str) -> TrainConfig {
    small_run::config(&format!("{LEARN}\n{changes}"))
}

/// A run of the judge in `folder`.
pub(crate) fn run<'a>(folder: &'a Path, changes: &str) -> Small<'a> {
    let config = config(changes);
    Small { folder, config, resume: Resume::No, disk: Box::new(LocalDisk), setup: setup() }
}

/// Runs it to its end: what was recorded, step by step.
pub(crate) fn rows(small: Small<'_>) -> Result<(Vec<Row>, Progress), TrainError> {
    let mut ear = Ear::default();
    let progress = small.train(&mut ear)?;
    Ok((ear.rows, progress))
}

/// A number of a step.
pub(crate) fn value(row: &Row, name: &str) -> f64 {
    row.values.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// The judge: model, prompts and data.
pub(crate) fn setup() -> &'static Setup {
    static SETUP: OnceLock<(TempDir, Setup)> = OnceLock::new();
    let (_, setup) = SETUP.get_or_init(|| {
        let home = tempfile::tempdir().unwrap();
        let learned = cold_start(home.path());
        (home, learned)
    });
    setup
}

/// The judge as it learns, on the CPU.
pub(crate) fn learner() -> Learner {
    let (setup, stream) = (setup(), Stream::new(Device::open(DeviceChoice::Cpu, 1).unwrap()));
    let mut arena = Arena::new("model", stream.device(), 1 << 24);
    let model = Model::new(setup.model.clone(), DType::F32, 256, &mut arena).unwrap();
    let mut learner = Learner::new(stream, model, patarm::optimizer::Kept::default(), &mut arena).unwrap();
    learner.model.read(setup.folder.as_ref().unwrap(), Scan::Finite).unwrap();
    learner
}

fn cold_start(home: &Path) -> Setup {
    let mut setup = new_setup();
    let config =
        small_run::config("sft.steps = 80\nsft.rows = 4\nsft.optimizer = { lr = 0.01 }\nrl.steps = 0");
    let small = Small { folder: home, config, resume: Resume::No, disk: Box::new(LocalDisk), setup: &setup };
    small.train(&mut Ear::default()).unwrap();
    setup.folder = Some(ModelFolder::open(checkpoints(home).pop().unwrap()).unwrap());
    setup
}

fn new_setup() -> Setup {
    let mut setup = small_run::new_setup();
    setup.model = Config::parse(SHAPE).unwrap();
    setup.judge.max_new_tokens = LONGEST;
    let tokenizer = &setup.judge.tokenizer;
    let prompts = setup.data.train.iter().flat_map(|prepared| &prepared.prompts);
    let rows = prompts.enumerate().map(|(i, prompt)| {
        let completion = tokenizer.encode(&judgement(i)).unwrap();
        let ends = completion.iter().chain(tokenizer.eos().first());
        SftRow { prompt: prompt.iter().map(|t| t.0).collect(), completion: ends.map(|t| t.0).collect() }
    });
    let rows: Vec<SftRow> = rows.collect();
    assert!(rows.iter().all(|row| row.completion.len() <= LONGEST), "{rows:?}");
    setup.cold_start = rows;
    setup
}

/// The same judgement again and again, with another score.
fn judgement(i: usize) -> String {
    let score = Score::from_tenths(10 * (1 + (i * 5 % 9) as u8)).unwrap();
    let verdict = Verdict { score, ..demo::openings(1, 1, 1.0)[0].verdict() };
    format_verdict(&verdict, Spacing::Compact).unwrap()
}
