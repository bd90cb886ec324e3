//! One file a subcommand: as typed, checked, one library call. Standard output is data, standard error is talk.

mod config;
mod exit;
mod machine;
mod observer;
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
    Train(train::Train),
}

/// Parses the command line, runs one subcommand, and says how it went.
pub fn main() -> ExitCode {
    let (typed, overrides) = config::split_overrides(std::env::args_os().collect());
    let result = match Cli::parse_from(typed).command {
        Command::Train(train) => train.run(&overrides),
    };
    match result {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
