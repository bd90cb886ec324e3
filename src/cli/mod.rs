//! One file a subcommand: as typed, checked, one library call. Standard output is data, standard error is talk.

mod bad_rows;
mod bench;
mod ckpt;
mod config;
mod evaluate;
mod exit;
mod flags;
mod generate;
mod going;
mod init;
mod items;
mod judging;
mod kernels;
mod logprobs;
mod lora;
mod machine;
mod merge;
mod model;
mod observer;
mod output;
mod plan;
mod profiling;
mod progress;
mod records;
mod replay;
mod report;
mod rows;
mod score;
mod selftest;
mod sft;
mod signals;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Turns pairwise preferences into a pointwise generative reward model: PaTaRM on Qwen3.
#[derive(Debug, Parser)]
#[command(name = "patarm", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Bench),
    Ckpt(ckpt::Ckpt),
    Train(train::Train),
    Sft(sft::Sft),
    Evaluate(evaluate::Evaluate),
    Score(score::Score),
    Selftest(selftest::Selftest),
    Generate(generate::Generate),
    Logprobs(logprobs::LogProbs),
    Init(init::Init),
    Merge(merge::Merge),
    Plan(plan::Plan),
    Replay(replay::Replay),
    Report(report::Report),
}

/// Parses the command line, runs one subcommand, and says how it went.
pub fn main() -> ExitCode {
    let (typed, overrides) = config::split_overrides(std::env::args_os().collect());
    let result = match Cli::parse_from(typed).command {
        Command::Bench(bench) => bench.run(),
        Command::Ckpt(ckpt) => ckpt.run(),
        Command::Train(train) => train.run(&overrides),
        Command::Sft(sft) => sft.run(&overrides),
        Command::Evaluate(evaluate) => evaluate.run(&overrides),
        Command::Score(score) => score.run(&overrides),
        Command::Selftest(selftest) => selftest.run(),
        Command::Generate(generate) => generate.run(&overrides),
        Command::Logprobs(logprobs) => logprobs.run(&overrides),
        Command::Init(init) => init.run(&overrides),
        Command::Merge(merge) => merge.run(&overrides),
        Command::Plan(plan) => plan.run(&overrides),
        Command::Replay(replay) => replay.run(&overrides),
        Command::Report(report) => report.run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
