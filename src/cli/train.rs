use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::config::Overrides;
use super::flags::{Flags, quoted};
use super::going::Going;
use super::judging::ThinkingFlags;
use super::lora::Lora;
use super::observer::Terminal;
use super::output::{print_out, say};
use super::{bad_rows, machine};
use crate::device::Device;
use crate::trainer::{Observer, Setup, TrainConfig};

/// Settings of the embedded demo.
pub(super) const DEMO: &str = include_str!("../../models/demo/train.toml");

/// Where the user brings data or a model, there is no embedded text to read before.
const OWN: &str = "[sft]\nsteps = 0\n";

/// Train a judge from preference pairs: cold start, then PAR and GRPO, then held-out evaluation.
///
/// Without arguments: the embedded demo, a small model on made-up pairs, in a few minutes on two cores.
#[derive(Debug, Args)]
pub(super) struct Train {
    /// File or folder of preference pairs (jsonl, json, gz, zst, parquet); without it the embedded demo pairs.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Hugging Face folder of a Qwen3, Qwen2 or Llama model; without it the embedded demo model.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Train a reward model of another kind on the same base and pairs, to compare with.
    #[arg(long, value_name = "KIND", value_parser = ["bradley-terry"])]
    baseline: Option<String>,
    #[command(flatten)]
    lora: Lora,
    /// Run folder.
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    out: PathBuf,
    /// Rows that may be bad: they are left out and listed in the run folder's rejects.jsonl; one more ends the run [default: 0].
    #[arg(long, value_name = "N")]
    skip_bad: Option<usize>,
    /// Do not start where ids stand twice or training text repeats a held-out prompt, 13 words in a row.
    #[arg(long)]
    deny_contamination: bool,
    /// Names of the numbers in TensorBoard [default: trl].
    #[arg(long, value_name = "NAMES", value_parser = ["trl", "verl"])]
    metric_names: Option<String>,
    #[command(flatten)]
    going: Going,
    #[command(flatten)]
    thought: ThinkingFlags,
    #[command(flatten)]
    flags: Flags,
}

impl Train {
    pub(super) fn run(self, overrides: &Overrides) -> Result<ExitCode> {
        let config = self.settings(overrides)?;
        let flags = &self.flags;
        flags.run(&config, |device| self.train(&config, device))
    }

    fn settings(&self, overrides: &Overrides) -> Result<TrainConfig> {
        let demo = self.data.is_none() && self.model.is_none();
        let layers =
            if demo { [("the demo's settings", DEMO)] } else { [("what suits a user's own data", OWN)] };
        let [thinking, budget] = self.thought.settings();
        let typed = [
            thinking,
            budget,
            ("data.path", quoted(&self.data)),
            ("model.path", quoted(&self.model)),
            ("data.skip_bad", self.skip_bad.map(|count| count.to_string())),
            ("data.contaminated", self.deny_contamination.then(|| "deny".into())),
            ("rl.baseline", quoted(&self.baseline)),
            ("report.metric_names", quoted(&self.metric_names)),
        ];
        let typed = [&typed[..], &self.lora.settings()].concat();
        self.flags.settings(&layers, &typed, overrides)
    }

    fn train(&self, config: &TrainConfig, device: Device) -> Result<ExitCode> {
        let (folder, signals) = self.going.open(&self.out, config, &device)?;
        let setup = Setup::read(config)?;
        setup.noticed.notices().iter().for_each(|notice| say(notice));
        let mut folder = folder.with_setup(setup.judge.tokenizer.files(), &setup.data.hash);
        bad_rows::keep(&self.out.join(bad_rows::REJECTS), &setup.rejects)?;
        let threads = match &device {
            Device::Host(host) => host.threads(),
            Device::Cuda(_) => 1,
        };
        let provenance = machine::provenance(&setup.data.hash, threads);
        folder.keep_provenance(&provenance)?;
        let terminal = Terminal::new(config.sft.steps + config.rl.steps, signals);
        let (mut run, mut terminal) = self.going.begin((config, &setup), device, &mut folder, terminal)?;
        run.train(&mut folder, &mut terminal)?;
        let outcome = run.finish(&mut folder, &mut terminal)?;
        folder.keep_outcome(&outcome, provenance, &mut terminal)?;
        terminal.notice(&outcome.table().to_string());
        terminal.notice(&format!("report: {}", self.out.join("report.html").display()));
        print_out(&serde_json::to_string(&outcome)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
