use anyhow::{Result, bail};
use clap::Args;

use crate::trainer::TrainConfig;

/// Whether the judge thinks: what every command that samples judgements understands.
#[derive(Debug, Args)]
pub(super) struct ThinkingFlags {
    /// Whether the judge thinks first; for models whose chat template knows enable_thinking [default: off].
    #[arg(long, value_name = "ON|OFF", value_parser = ["on", "off"])]
    thinking: Option<String>,
    /// Most tokens of a thought; a longer one is ended by force [default: 512].
    #[arg(long, value_name = "N")]
    thinking_budget: Option<usize>,
}

impl ThinkingFlags {
    /// The settings that the flags stand for.
    pub(super) fn settings(&self) -> [(&'static str, Option<String>); 2] {
        [
            ("rollout.thinking", self.thinking.clone()),
            ("rollout.thinking_budget", self.thinking_budget.map(|n| n.to_string())),
        ]
    }
}

/// How responses are judged: what `score` and `evaluate` share.
#[derive(Debug, Args)]
pub(super) struct JudgingFlags {
    /// Show the judge one response (pointwise) or both of a pair side by side, in both orders (pairwise) [default: pointwise].
    #[arg(long, value_name = "MODE", value_parser = ["pointwise", "pairwise"])]
    mode: Option<String>,
    /// Judgements of each response or, side by side, of each order; several need a temperature above 0 [default: score 1,
    /// evaluate 4].
    #[arg(long, visible_alias = "samples", value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    judgements: Option<u32>,
    /// How several judgements become one: their mean, or the majority [default: mean].
    #[arg(long, value_name = "HOW", value_parser = ["mean", "majority"])]
    vote: Option<String>,
    /// What a judgement of one response says: the score it writes (parsed), or the mean over all it could have written (expected)
    /// [default: parsed].
    #[arg(long, value_name = "WHAT", value_parser = ["parsed", "expected"])]
    reading: Option<String>,
    #[command(flatten)]
    thought: ThinkingFlags,
    /// Softmax temperature; 0: greedy [default: score 0, evaluate 1].
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Longest judgement after a thought, tokens [default: 64].
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
}

impl JudgingFlags {
    /// The settings that the flags stand for.
    pub(super) fn settings(&self) -> [(&'static str, Option<String>); 8] {
        let [thinking, budget] = self.thought.settings();
        [
            ("evaluation.mode", self.mode.clone()),
            ("evaluation.judgements", self.judgements.map(|k| k.to_string())),
            ("evaluation.vote", self.vote.clone()),
            ("evaluation.reading", self.reading.clone()),
            thinking,
            budget,
            ("evaluation.sampling.temperature", self.temperature.map(|t| t.to_string())),
            ("rollout.max_new_tokens", self.max_new_tokens.map(|n| n.to_string())),
        ]
    }

    /// Refuses settings that do not go together.
    pub(super) fn check(&self, config: &TrainConfig) -> Result<()> {
        config.check()?;
        let evaluation = &config.evaluation;
        if self.judgements.is_some_and(|k| k > 1) && evaluation.sampling.temperature == 0.0 {
            let k = evaluation.judgements;
            bail!("--judgements {k}: greedy judgements are all the same; add --temperature 1");
        }
        Ok(())
    }
}
