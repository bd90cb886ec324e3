use serde::{Deserialize, Serialize};

use crate::tokenizer::Message;

/// One comparison: of two answers to the same conversation, `chosen` was preferred. Nothing says how good either is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferencePair {
    /// The row's own id, or its content hash where the file has none.
    pub id: String,
    /// Name of the judging task (`chat`, `math`, `code`, `safety`, or the user's own).
    pub task: String,
    /// The conversation up to and including the user turn that both answers reply to.
    pub messages: Vec<Message>,
    /// The preferred answer.
    pub chosen: String,
    /// The other answer.
    pub rejected: String,
}
