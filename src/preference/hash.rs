use blake3::{Hash, Hasher};

use super::pair::PreferencePair;
use crate::tokenizer::{Message, Role};

impl PreferencePair {
    /// What makes two rows the same pair: task, conversation and both responses, with line ends and outer white space
    /// made equal. The id does not count.
    pub fn content_hash(&self) -> Hash {
        let mut hasher = Hasher::new();
        feed(&mut hasher, &self.task);
        feed_turns(&mut hasher, &self.messages, same_text);
        feed(&mut hasher, &same_text(&self.chosen));
        feed(&mut hasher, &same_text(&self.rejected));
        hasher.finalize()
    }

    /// What makes two pairs the same question: the conversation, letter case and white space made equal, whatever the
    /// task and the responses.
    pub fn prompt_hash(&self) -> Hash {
        let mut hasher = Hasher::new();
        feed_turns(&mut hasher, &self.messages, same_words);
        hasher.finalize()
    }
}

/// The hash of a data set: every byte of every pair, in order.
pub fn data_hash<'a>(pairs: impl IntoIterator<Item = &'a PreferencePair>) -> Hash {
    let mut hasher = Hasher::new();
    for pair in pairs {
        feed(&mut hasher, &pair.id);
        feed(&mut hasher, &pair.task);
        feed_turns(&mut hasher, &pair.messages, str::to_owned);
        feed(&mut hasher, &pair.chosen);
        feed(&mut hasher, &pair.rejected);
    }
    hasher.finalize()
}

fn feed_turns(hasher: &mut Hasher, messages: &[Message], normalise: fn(&str) -> String) {
    hasher.update(&(messages.len() as u64).to_le_bytes());
    for message in messages {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        feed(hasher, role);
        feed(hasher, &normalise(&message.content));
    }
}

/// The length comes first, so that no two lists of texts feed the same bytes.
fn feed(hasher: &mut Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn same_text(text: &str) -> String {
    text.trim().replace("\r\n", "\n")
}

fn same_words(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}
