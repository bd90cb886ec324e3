//! Judging tasks and their primary criteria; conversation and response to judge prompt; judge text to [`Verdict`].
//!
//! Tasks are data: one TOML file each (`tasks/*.toml`), which the user's own files can replace or join:
//!
//! ```toml
//! instructions = "How to judge."              # optional
//! [[criteria]]                                # at least one; names are unique
//! name = "Usefulness"
//! text = "What earns marks."
//! [layout]                                    # optional; what is absent is as in layout.toml
//! system = "Judge {task}."                    # no system turn without it; slots task, criteria, instructions, grammar
//! user = "{criteria} {conversation} {response}"   # the same slots, conversation once, then response once and last
//! turn = "<{role}>{content}</{role}>"         # one turn of {conversation}; without {role} it can show one turn only
//! grammar = "How to write the verdict."       # fills {grammar}; the grammar itself is fixed, see `Verdict::parse`
//! pair = "{conversation} {first} {second}"    # user turn with two responses side by side, each once, at the end
//! pair_grammar = "How to write two scores."   # fills {grammar} there; see `PairVerdict::parse`
//! [template]                                  # optional: the words of cold-start judgements, else as in template.toml
//! criteria = [{ name = "Fit", text = "answers what was asked" }]
//! remarks = ["seen in the response"]
//! ```
//!
//! Plain braces are written `{{` and `}}`. Content never closes a tag or opens a role: see `neutral.rs`.

mod failure;
mod grammar;
mod layout;
mod neutral;
mod prompt;
mod score;
mod task;
mod template;
mod verdict;
mod write;

pub use failure::{FailureKind, VerdictError};
pub use grammar::{Characters, Rule, pair_verdict_rule, verdict_rule};
pub use prompt::{RubricError, RubricSet};
pub use score::Score;
pub use task::{Criterion, Task};
pub use verdict::{Ending, GeneratedCriterion, PairVerdict, Remark, Verdict};
pub use write::{Spacing, UnwritableVerdict, format_verdict};
