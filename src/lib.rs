//! patarm turns pairwise preferences into a pointwise generative reward model (PaTaRM, arXiv 2510.24235) on Qwen3.
//!
//! Modules in the order in which one preference pair travels through them.

pub mod demo; // the embedded default's pairs
pub mod evaluation; // held-out accuracy with intervals, and judges that read nothing
pub mod preference; // a row of a file -> PreferencePair
pub mod record; // Rollout: what sampling leaves behind
pub mod report;
pub mod reward; // Verdict -> Score -> Reward (PAR)
pub mod rubric; // pair -> judge prompt; judge text -> Verdict
pub mod tokenizer; // messages -> token ids and back // metrics -> TensorBoard, HTML, tables
