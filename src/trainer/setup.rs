use std::path::Path;

use super::cold_start;
use super::pairs::Pairs;
use super::sft::{self, SftRow};
use super::{DataReport, ModelDtype, TrainConfig, TrainError, TrainingData};
use crate::checkpoint::ModelFolder;
use crate::demo;
use crate::evaluation::Judge;
use crate::preference::RowError;
use crate::qwen3::Config;
use crate::rubric::RubricSet;
use crate::tensor::DType;
use crate::tokenizer::{Thinking, Tokenizer};

/// Shape of the embedded demo model.
const DEMO_MODEL: &str = include_str!("../../models/demo/config.json");

/// Everything a run starts from, checked and read before the first step.
#[derive(Debug)]
pub struct Setup {
    /// Shape of the model.
    pub model: Config,
    /// Its folder; none: fresh weights.
    pub folder: Option<ModelFolder>,
    /// Prompts and verdicts.
    pub judge: Judge,
    /// The pairs.
    pub data: TrainingData,
    /// What the cold start reads; empty where there is none.
    pub cold_start: Vec<SftRow>,
    /// What was noticed about the data.
    pub noticed: DataReport,
    /// Rows that were no pair.
    pub rejects: Vec<RowError>,
}

impl ModelDtype {
    /// The storage dtype it names.
    pub fn storage(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F64 => DType::F64,
        }
    }
}

impl Setup {
    /// Reads model, tokenizer, rubrics and pairs.
    ///
    /// # Errors
    /// The first thing that can't be used, and where it stands.
    pub fn read(config: &TrainConfig) -> Result<Self, TrainError> {
        config.check()?;
        let (mut model, folder, tokenizer) = match &config.model.path {
            Some(path) => from_folder(path)?,
            None => (Config::parse(DEMO_MODEL)?, None, demo::tokenizer()?),
        };
        model.adapter = config.low_rank()?;
        let judge = config.judge(rubrics(config)?, tokenizer)?;
        let Pairs { splits, hash, mut noticed, rejects } = Pairs::read(config)?;
        let data = TrainingData::prepare(&judge, splits, hash, config)?;
        if config.data.path.is_some() {
            noticed.look(&data, config.data.contaminated)?;
        }
        let cold_start =
            if config.sft.steps == 0 { Vec::new() } else { cold_start::rows(config, &judge, &data.train)? };
        let setup = Self { model, folder, judge, data, cold_start, noticed, rejects };
        setup.check(config)?;
        Ok(setup)
    }

    fn check(&self, config: &TrainConfig) -> Result<(), TrainError> {
        let refuse = |setting: &str, reason| Err(TrainError::Config { setting: setting.into(), reason });
        let longest = config.data.max_prompt_tokens + self.judge.longest();
        let known = self.judge.tokenizer.vocab_size();
        match () {
            () if longest > self.model.positions => {
                let reason = format!(
                    "{longest} tokens with the judgement, the model has {} positions",
                    self.model.positions
                );
                refuse("data.max_prompt_tokens", reason)
            }
            () if known > self.model.vocabulary => {
                refuse("model.path", format!("{known} tokens, the model has {} rows", self.model.vocabulary))
            }
            () if self.data.train.is_empty() && config.rl.steps > 0 => {
                refuse("data.path", "no pair is left to train on".into())
            }
            () if config.sft.steps > 0 && self.cold_start.is_empty() => {
                refuse("sft.steps", "there is nothing to read: set it to 0".into())
            }
            () if config.sft.steps > 0 && config.rollout.thinking == Thinking::On => refuse(
                "rollout.thinking",
                "the cold start teaches judgements without a thought: set sft.steps to 0".into(),
            ),
            () if config.rollout.samples < 2 => refuse("rollout.samples", "a group needs at least 2".into()),
            () => Ok(()),
        }
    }

    /// A run that only reads rows: no pairs, nothing to judge.
    ///
    /// # Errors
    /// When the settings make no judge.
    pub fn of_rows(
        config: &TrainConfig,
        (model, folder): (Config, ModelFolder),
        tokenizer: Tokenizer,
        rows: Vec<SftRow>,
    ) -> Result<Self, TrainError> {
        let judge = config.judge(RubricSet::default(), tokenizer)?;
        let data = TrainingData::prepare(&judge, [Vec::new(), Vec::new()], sft::hash(&rows), config)?;
        let noticed = DataReport { rows: rows.len(), ..DataReport::default() };
        Ok(Self { model, folder: Some(folder), judge, data, cold_start: rows, noticed, rejects: Vec::new() })
    }

    /// Whether judgements are ever sampled.
    pub fn samples(&self, config: &TrainConfig) -> bool {
        config.rl.steps > 0 || !self.data.held_out.is_empty() || !self.data.validation.is_empty()
    }

    /// Longest sequence that the run can meet, tokens.
    pub fn positions(&self, config: &TrainConfig) -> usize {
        let longest = self.cold_start.iter().map(|row| row.prompt.len() + row.completion.len()).max();
        let judged = config.data.max_prompt_tokens + self.judge.longest();
        longest.unwrap_or(0).max(if self.samples(config) { judged } else { 0 })
    }
}

fn from_folder(path: &Path) -> Result<(Config, Option<ModelFolder>, Tokenizer), TrainError> {
    let folder = ModelFolder::open(path)?;
    let config = Config::parse(&folder.config_json().to_string())?;
    Ok((config, Some(folder), Tokenizer::from_dir(path)?))
}

fn rubrics(config: &TrainConfig) -> Result<RubricSet, TrainError> {
    let own = if config.data.path.is_none() { demo::rubrics() } else { RubricSet::builtin() };
    Ok(match &config.data.rubrics {
        Some(path) => own.replaced_by(RubricSet::from_dir(path)?),
        None => own,
    })
}
