//! Text to tokens and back: the published tokenizer, trained ones, hostile ones.

#![allow(clippy::unwrap_used, reason = "what a helper cannot do fails its test")]

mod hostile;
mod qwen3;
mod trained;
