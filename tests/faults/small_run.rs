//! Whole runs in this process, on a model so small that a step takes milliseconds.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use patarm::checkpoint::{Disk, LocalDisk};
use patarm::device::{Device, DeviceChoice, Stream};
use patarm::evaluation::Judge;
use patarm::qwen3::Config;
use patarm::report::{Origin, Row};
use patarm::trainer::sft::SftRow;
use patarm::trainer::{
    Allowed, Clock, DataReport, Evaluated, Observer, Progress, Resume, Run, RunFolder, Setup, TrainConfig,
    TrainError, TrainingData,
};
use patarm::{demo, preference};

/// Four steps of the cold start and four of reinforcement learning, a checkpoint every second, an evaluation every third.
const SETTINGS: &str = "
seed = 3
sft = { steps = 4, rows = 4, share_right = 0.85 }
rollout = { samples = 2, max_new_tokens = 4, tokens_per_pass = 256, sequences = 16, kv_blocks = 64 }
rl = { steps = 4, pairs = 2, leaf_tokens = 256, loss = { kl = 0.05 } }
data = { max_prompt_tokens = 160 }
evaluation = { every = 3, validation_pairs = 2, held_out_pairs = 2, judgements = 1 }
checkpoint = { every = 2, keep = 2 }
";

const SHAPE: &str = r#"{
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 875, "hidden_size": 8,
    "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
    "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
    "max_position_embeddings": 512
}"#;

/// The small settings with some changed, a dotted name a line: `rl.steps = 2`.
pub(crate) fn config(changes: &str) -> TrainConfig {
    let mut table: toml::Table = SETTINGS.parse().unwrap();
    for line in changes.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once('=').unwrap();
        let (section, key) = name.trim().split_once('.').unwrap();
        let value = format!("x = {value}").parse::<toml::Table>().unwrap().remove("x").unwrap();
        let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
        section.as_table_mut().unwrap().insert(key.into(), value);
    }
    table.try_into::<TrainConfig>().unwrap().resolved()
}

/// Model, judge and data of the small settings: eight pairs to learn from, two to validate, two held out.
pub(crate) fn setup() -> &'static Setup {
    static SETUP: OnceLock<Setup> = OnceLock::new();
    SETUP.get_or_init(new_setup)
}

/// The same once more, to be changed.
pub(crate) fn new_setup() -> Setup {
    let config = config("");
    let (tokenizer, model) = (demo::tokenizer().unwrap(), Config::parse(SHAPE).unwrap());
    assert!(tokenizer.vocab_size() <= model.vocabulary);
    let (rubric, max_new_tokens) = (demo::rubrics(), config.rollout.max_new_tokens);
    let judge = Judge::new(rubric, tokenizer, max_new_tokens);
    let train = demo::pairs(1, demo::Split::Train, 8);
    let rest = demo::pairs(0, demo::Split::HeldOut, 4);
    let hash = preference::data_hash(train.iter().chain(&rest)).to_hex().to_string();
    let ids = |text: &str| judge.tokenizer.encode(text).unwrap().iter().map(|t| t.0).collect();
    let row = |pair: &patarm::preference::PreferencePair| SftRow {
        prompt: ids(&pair.messages[0].content),
        completion: ids(&pair.chosen),
    };
    let cold_start = train.iter().map(row).collect();
    let data = TrainingData::prepare(&judge, [train, rest], hash, &config).unwrap();
    let (noticed, rejects) = (DataReport::default(), Vec::new());
    Setup { model, folder: None, judge, data, cold_start, noticed, rejects }
}

/// Hears a run, and asks it to stop after a step.
#[derive(Default)]
pub(crate) struct Ear {
    pub(crate) notices: Vec<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) waited: Vec<f64>,
    pub(crate) stop_after: Option<u64>,
    /// How often it is asked before it wants the run to end.
    pub(crate) patience: Option<usize>,
    pub(crate) asked: Cell<usize>,
    pub(crate) step: u64,
    /// A folder that is in the way, and the step after which it is not.
    pub(crate) repair: Option<(u64, PathBuf)>,
}

impl Observer for Ear {
    fn stepped(&mut self, progress: &Progress, row: &Row) {
        self.step = progress.step;
        self.rows.push(row.clone());
        if let Some((_, folder)) = self.repair.as_ref().filter(|(step, _)| *step == progress.step) {
            fs::remove_dir(folder).unwrap();
        }
    }

    fn evaluated(&mut self, _: &'static str, _: &Evaluated) {}

    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_owned());
    }

    fn wait(&mut self, seconds: f64) {
        self.waited.push(seconds);
    }

    fn wants_stop(&self) -> bool {
        let asked = self.asked.replace(self.asked.get() + 1);
        self.stop_after == Some(self.step) || self.patience.is_some_and(|patience| asked >= patience)
    }
}

pub(crate) fn origin() -> Origin {
    Origin { host: "here".into(), pid: std::process::id(), time: 0.0 }
}

/// A run in `folder` with `config`, as the command line puts one together.
pub(crate) struct Small<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) config: TrainConfig,
    pub(crate) resume: Resume,
    pub(crate) disk: Box<dyn Disk + Send>,
    pub(crate) setup: &'a Setup,
}

impl<'a> Small<'a> {
    pub(crate) fn new(folder: &'a Path, changes: &str) -> Self {
        let (config, disk) = (config(changes), Box::new(LocalDisk));
        Self { folder, config, resume: Resume::No, disk, setup: setup() }
    }

    pub(crate) fn resumed(self, allowed: &[&str]) -> Self {
        Self { resume: Resume::Yes(Allowed(allowed.iter().map(|&name| name.into()).collect())), ..self }
    }

    pub(crate) fn on(self, disk: impl Disk + Send + 'static) -> Self {
        Self { disk: Box::new(disk), ..self }
    }

    /// Runs to its end, or to where the ear wants it to stop.
    pub(crate) fn train(self, ear: &mut Ear) -> Result<Progress, TrainError> {
        let device = Device::open(DeviceChoice::Cpu, 1).unwrap();
        let Self { folder, config, resume, disk, setup } = self;
        let (mut heard, seen) = (std::mem::take(&mut ear.notices), std::mem::take(&mut ear.rows));
        let (stop_after, patience, repair) = (ear.stop_after, ear.patience, ear.repair.take());
        let (result, after) = device.clone().enter(move || {
            let mut ear = Ear { stop_after, patience, repair, rows: seen, ..Ear::default() };
            let result = Self::whole((folder, &config, setup), (resume, disk), device, &mut ear);
            (result, ear)
        });
        heard.extend(after.notices.iter().cloned());
        *ear = Ear { notices: heard, ..after };
        result
    }

    fn whole(
        (path, config, setup): (&Path, &TrainConfig, &Setup),
        (resume, disk): (Resume, Box<dyn Disk + Send>),
        device: Device,
        ear: &mut Ear,
    ) -> Result<Progress, TrainError> {
        let resumed = resume != Resume::No;
        let files = setup.judge.tokenizer.files();
        let folder = RunFolder::open(path, config, resume, &origin())?;
        let mut folder = folder.with_setup(files, &setup.data.hash).on_disk(disk);
        let mut run = Run::new(config, setup, Stream::new(device), Clock(|| 0.0))?;
        if resumed {
            run.restore(&folder, ear)?;
        }
        folder.start_metrics(run.progress())?;
        match run.train(&mut folder, ear) {
            Ok(()) | Err(TrainError::Stopped) => Ok(run.progress().clone()),
            Err(error) => Err(error),
        }
    }
}

/// Complete checkpoints, oldest first.
pub(crate) fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.join("complete.json").exists()).collect();
    found.sort();
    found
}

/// What the newest checkpoint holds of weights and moments, to the bit.
pub(crate) fn state(run: &Path) -> [Vec<u8>; 2] {
    let newest = checkpoints(run).pop().unwrap();
    ["model.safetensors", "state.safetensors"].map(|name| fs::read(newest.join(name)).unwrap())
}

/// Names in the folder of the checkpoints that begin with a dot: what a save left half done.
pub(crate) fn left_behind(run: &Path) -> usize {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count()
}

/// The state that an unbroken run of the small settings ends with.
pub(crate) fn unbroken() -> &'static [Vec<u8>; 2] {
    static STATE: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    STATE.get_or_init(|| {
        let home = tempfile::tempdir().unwrap();
        let mut ear = Ear::default();
        Small::new(home.path(), "").train(&mut ear).unwrap();
        assert_eq!(ear.rows.iter().map(|row| row.step).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        assert_eq!(ear.notices, Vec::<String>::new());
        state(home.path())
    })
}
