//! patarm turns pairwise preferences into a pointwise generative reward model (PaTaRM, arXiv 2510.24235) on Qwen3.
//!
//! The modules in the order in which one preference pair travels through them, then what carries the numbers, then
//! what a person touches. A module uses only what stands on its line: `tests/architecture.rs` reads this table and
//! holds the code against it. A new edge makes no cycle, and its reason is a sentence in the same commit.
//!
//! | module | what it does | uses |
//! |---|---|---|
//! | `demo` | the embedded default's pairs: generator and its truth | preference rubric tokenizer |
//! | `preference` | a row of a file becomes a `PreferencePair`; splits by content | tokenizer |
//! | `rubric` | pair and criteria to judge messages; judge text to `Verdict` | preference tokenizer |
//! | `tokenizer` | messages to token ids and back | - |
//! | `rollout` | samples judgements: scheduler, KV pool, generate | device tensor ops tokenizer qwen3 record |
//! | `record` | what a rollout leaves behind | tokenizer |
//! | `reward` | `Verdict` to `Score` to `Reward`: wins over the other side, PAR, format | preference rubric record |
//! | `grpo` | advantages, packing, loss variants | device tensor ops tokenizer record reward |
//! | `qwen3` | the model: forward and its mirror backward | device tensor ops checkpoint |
//! | `optimizer` | gradients to weights: AdamW, clip, schedule | device tensor ops |
//! | `checkpoint` | Hugging Face folders in and out; training state | device tensor |
//! | `trainer` | the step that reads in this order, and the run around it | everything but cli serve bench |
//! | `evaluation` | held-out accuracy and benchmarks, with intervals | preference rubric tokenizer record rollout reward report |
//! | `report` | metrics and judgements to TensorBoard, one HTML page, tables | record |
//! | `serve` | HTTP routes over the same engine | preference rubric tokenizer record rollout reward |
//! | `ops` | operators: contract, host body, launch | device tensor |
//! | `tensor` | named dims, dtypes, arenas | device |
//! | `device` | host threads, the CUDA driver; the home of `unsafe` | - |
//! | `bench` | selftest and benchmarks; decoding is measured on the requests and rollouts that users have | device tensor ops qwen3 rollout grpo optimizer report record tokenizer |
//! | `cli` | one file a subcommand: as typed, checked, one library call | everything |
//!
//! Pure (no tensor, no device anywhere below them): tokenizer preference record demo rubric reward report.

// Here and not in Cargo.toml: helper functions of tests may unwrap.
#![warn(clippy::unwrap_used)]

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod demo;
pub mod device;
pub mod evaluation;
pub mod grpo;
pub mod ops;
pub mod optimizer;
pub mod preference;
pub mod qwen3;
pub mod record;
pub mod report;
pub mod reward;
pub mod rollout;
pub mod rubric;
pub mod tensor;
pub mod tokenizer;
pub mod trainer;
