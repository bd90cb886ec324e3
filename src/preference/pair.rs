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

impl PreferencePair {
    /// Characters of the conversation.
    pub fn conversation_length(&self) -> usize {
        self.messages.iter().map(|message| message.content.chars().count()).sum()
    }

    /// The pair without the first `characters` of its conversation; turns of which nothing is left are left out. The id stays.
    #[must_use]
    pub fn without_beginning(&self, characters: usize) -> Self {
        let mut left = characters;
        let mut messages = self.messages.clone();
        messages.retain_mut(|message| {
            let text = &mut message.content;
            let end = text.char_indices().nth(left).map_or(text.len(), |(place, _)| place);
            left -= text[..end].chars().count();
            text.drain(..end);
            !text.is_empty()
        });
        Self { messages, ..self.clone() }
    }
}
