//! patarm: parse, run, print the error chain, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    patarm::cli::main()
}
