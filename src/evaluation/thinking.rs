use super::judge::chat;
use super::{Judge, JudgeError};
use crate::rollout::Thought;
use crate::tokenizer::{Message, Role, Thinking, TokenId, Tokenizer};

/// Tags of a thought.
pub(super) const TAGS: [&str; 2] = ["<think>", "</think>"];
/// Put in where a thought has spent its budget.
const CLOSING: &str = "\n</think>\n\n";

impl Judge {
    /// The same judge, which thinks for at most `budget` tokens before it judges.
    ///
    /// # Errors
    /// When the model's chat template does not know the difference, or the tags of a thought are not tokens of their own.
    pub fn thinking(mut self, budget: usize) -> Result<Self, JudgeError> {
        let messages = [Message::new(Role::User, "1")];
        let [off, on] = [Thinking::Off, Thinking::On].map(chat);
        let encode = |options| self.tokenizer.encode_chat(&messages, &options);
        if encode(off)? == encode(on)? {
            let reason = "the model's chat template says the same whatever enable_thinking is";
            return Err(JudgeError::Thinking { reason: reason.into() });
        }
        let [opens, ends] = TAGS.map(|tag| token(&self.tokenizer, tag));
        let closing = self.tokenizer.encode_with_specials(CLOSING)?.into();
        self.thought = Some(Thought { opens: opens?, ends: ends?, budget, closing });
        self.chat = on;
        Ok(self)
    }
}

/// The one token of a tag.
fn token(tokenizer: &Tokenizer, tag: &str) -> Result<TokenId, JudgeError> {
    match tokenizer.encode_with_specials(tag)?[..] {
        [token] => Ok(token),
        _ => Err(JudgeError::Thinking { reason: format!("its tokenizer has no token `{tag}`") }),
    }
}
