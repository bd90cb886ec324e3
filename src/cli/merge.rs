use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::config::Overrides;
use super::flags::Flags;
use super::init::export;
use super::model;
use super::output::say;
use crate::checkpoint::{CheckpointError, ModelFolder};
use crate::device::Device;
use crate::trainer::{TrainConfig, TrainError};

/// Merge an adapter into its base: a whole Hugging Face folder.
#[derive(Debug, Args)]
#[command(after_help = "\
In:   a base model and a LoRA adapter in peft's layout, as `patarm train --lora` and peft write it
Out:  OUT with config.json, model.safetensors and the base's tokenizer: w + alpha / rank B A in the place of every target's w

Example:  patarm merge --model DIR --adapter runs/train/adapter --out runs/merged")]
pub(super) struct Merge {
    /// Hugging Face folder of the base.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder that is written; it must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

impl Merge {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let config = self.flags.settings(&[], &[], overrides)?;
        if config.model.adapter.is_none() {
            bail!("--adapter is missing: which one is to be merged?");
        }
        self.flags.run(&config, |device| self.write(&config, device))
    }

    fn write(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        if self.out.exists() {
            return Err(TrainError::from(CheckpointError::Exists { path: self.out.clone() }).into());
        }
        let mut loaded = model::open(&self.model, &config.model, device)?;
        loaded.model.merge(&loaded.stream).map_err(TrainError::from)?;
        let companions = ModelFolder::open(&self.model).and_then(|folder| folder.companions());
        export((&loaded.model, None), &companions.map_err(TrainError::from)?, &self.out)?;
        say(&self.out.display().to_string());
        Ok(ExitCode::SUCCESS)
    }
}
