//! Every part of the method in whole runs, on a small judge that writes the output grammar.

#![allow(clippy::unwrap_used, reason = "what a helper cannot do fails its test")]

#[path = "method/golden.rs"]
mod golden;
#[path = "faults/program.rs"]
#[allow(dead_code, reason = "shared with the conformance table")]
mod program;
#[path = "method/replay.rs"]
mod replay;
#[path = "method/rewards.rs"]
mod rewards;
#[path = "faults/small_run.rs"]
#[allow(dead_code, reason = "shared with the conformance table")]
mod small_run;
#[path = "method/updates.rs"]
mod updates;
#[path = "method/whole.rs"]
mod whole;
#[path = "method/writer.rs"]
mod writer;
