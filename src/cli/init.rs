use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::config::Overrides;
use super::flags::Machine;
use super::model::exact;
use super::output::{print_out, say};
use crate::checkpoint::{CheckpointError, Companion, LocalDisk, Save};
use crate::device::{Device, Stream};
use crate::qwen3::{Config, Model};
use crate::tensor::Arena;
use crate::tokenizer::TokenizerFiles;
use crate::trainer::TrainError;

/// Fresh, untrained weights for a configuration, as a Hugging Face folder.
#[derive(Debug, Args)]
#[command(after_help = "\
In:   config.json of a dense Qwen3 (a folder that holds one, or the file itself)
Out:  DIR with config.json, model.safetensors and, where there are any, the tokenizer's files
Matrices are normal with spread 0.02, gains are 1; the same seed gives the same bytes.

Example:  patarm init --config models/qwen3-0.6b --seed 1 runs/fresh")]
pub(super) struct Init {
    /// Folder with a config.json, or the file.
    #[arg(long, value_name = "PATH")]
    config: PathBuf,
    /// Folder whose tokenizer files are copied; without it those beside config.json, if there are any.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Print the config.json that would be written, and stop.
    #[arg(long)]
    print_config: bool,
    /// Folder that is written; it must not exist.
    #[arg(value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    machine: Machine,
}

impl Init {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        if let Some((name, _)) = overrides.first() {
            bail!("--{name}: init has no settings; edit a copy of config.json instead");
        }
        let (file, config) = shape(&self.config)?;
        if self.print_config {
            let dtype = self.machine.dtype.unwrap_or_default().storage();
            print_out(config.to_json(dtype).trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        self.machine.run(|device| self.write(&file, config, device))
    }

    fn write(&self, file: &Path, config: Config, device: Device) -> Result<ExitCode> {
        let companions = self.companions(file)?;
        let dtype = self.machine.dtype.unwrap_or_default().storage();
        let carve = |arena: &mut Arena| Model::new(config.clone(), dtype, 1, arena);
        let (_memory, mut model) = exact(&device, "model", carve).map_err(TrainError::from)?;
        let stream = Stream::new(device);
        model.initialise(&stream, self.machine.seed.unwrap_or(1)).map_err(TrainError::from)?;
        export((&model, None), &companions, &self.out)?;
        say(&format!("{}: {} parameters", self.out.display(), config.parameters()));
        Ok(ExitCode::SUCCESS)
    }

    fn companions(&self, file: &Path) -> Result<Vec<Companion>, TrainError> {
        let beside = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let files = TokenizerFiles::read(self.tokenizer.as_deref().unwrap_or(beside))?;
        if self.tokenizer.is_some() && files.get("tokenizer.json").is_none() {
            return Err(crate::tokenizer::TokenizerError::Missing { name: "tokenizer.json" }.into());
        }
        Ok(companions(&files))
    }
}

/// Reads a config.json, or the one of a folder.
pub(super) fn shape(path: &Path) -> Result<(PathBuf, Config)> {
    let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let text = fs::read_to_string(&file).map_err(|source| {
        let (path, doing) = (file.clone(), "read it");
        TrainError::from(CheckpointError::Io { path, doing, source })
    })?;
    let config = Config::parse(&text).map_err(TrainError::from);
    let config = config.with_context(|| file.display().to_string())?;
    Ok((file, config))
}

/// A tokenizer's files as they stand beside weights.
pub(super) fn companions(files: &TokenizerFiles) -> Vec<Companion> {
    let files = files.iter().filter(|(name, _)| *name != "config.json");
    files.map(|(name, bytes)| Companion { name: name.to_owned(), bytes: bytes.to_vec() }).collect()
}

/// Writes what learns as a folder that must not exist: a Hugging Face folder, or peft's of an adapter to `base`.
pub(super) fn export(
    (model, base): (&Model, Option<&Path>),
    companions: &[Companion],
    out: &Path,
) -> Result<()> {
    let (layout, config) = model.described(base.map(|base| base.display().to_string()).as_deref());
    let weights = model.learns().named();
    let save = Save { layout, companions, ..Save::new(&config, &weights) };
    save.write(&LocalDisk, out).map_err(TrainError::from)?;
    Ok(())
}
