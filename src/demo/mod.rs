//! The embedded default's preference pairs: four small worlds of readable text whose truth only the generator knows.
//!
//! Each world (chat, math, code, safety) draws a request and two answers to it, one right and one wrong. Everything
//! else in a text (the name, how an answer opens and closes) is filler that carries no truth. What leaves this module:
//!
//! - [`pairs`]: the right answer as `chosen`, the wrong one as `rejected`; all that preference training sees;
//! - [`reading`]: requests with one unlabelled answer each, of which a named share is right, drawn apart from the pairs;
//! - [`openings`]: verdicts for the cold start: what another unlabelled answer to this request said, what this one says,
//!   whether the two words are the same, and a score that is drawn blindly;
//! - [`rubrics`] and [`tokenizer`]: the judging tasks and the vocabulary that suit these texts.
//!
//! Requests and filler combinations are split by content: what is held out appears in no pair, reading or opening
//! that training sees, whatever the seeds.

mod chat;
mod code;
mod draw;
mod filler;
mod judge;
mod math;
mod safety;
mod scene;
mod split;
mod text;

pub use judge::{rubrics, tokenizer};
pub use split::Split;
pub use text::{Opening, Reading, openings, pairs, reading};

/// The names of the four tasks, in the order in which rows cycle through them.
pub const TASKS: [&str; 4] = ["chat", "math", "code", "safety"];
