use std::sync::Arc;

use super::Request;
use crate::tokenizer::TokenId;

/// A thought before the answer, and what ends it when it grows too long. Its tokens, the forced ones included, do not count
/// towards the request's `max_new_tokens`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thought {
    /// Opens it (`<think>`), drawn by the model or last of its kind in the prompt.
    pub opens: TokenId,
    /// Ends it (`</think>`).
    pub ends: TokenId,
    /// Most tokens after `opens`; 0 ends the thought as it begins.
    pub budget: usize,
    /// Put in where the budget is spent and `ends` was not drawn; holds `ends`.
    pub closing: Arc<[TokenId]>,
}

impl Thought {
    /// Tokens of a thought at most.
    pub fn longest(&self) -> usize {
        1 + self.budget + self.closing.len()
    }

    /// Whether a prompt ends inside a thought.
    pub fn is_open_in(&self, prompt: &[TokenId]) -> bool {
        prompt.iter().rev().find(|token| [self.opens, self.ends].contains(token)) == Some(&self.opens)
    }
}

/// Where a sample stands. A request has one thought at most: what opens another later is part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Answer tokens only, so far.
    Before { answered: usize },
    /// In the thought, with this many tokens of its budget spent.
    Thinking { answered: usize, spent: usize },
    /// The next of the closing tokens is put in.
    Closing { answered: usize, next: usize },
    /// The thought is over, or none was allowed.
    After { answered: usize },
}

impl Stage {
    pub(super) fn first(request: &Request) -> Self {
        match &request.thought {
            None => Self::After { answered: 0 },
            Some(thought) if thought.is_open_in(&request.prompt) => Self::thinking(thought, 0, 0),
            Some(_) => Self::Before { answered: 0 },
        }
    }

    fn thinking(thought: &Thought, answered: usize, spent: usize) -> Self {
        if spent < thought.budget {
            Self::Thinking { answered, spent }
        } else {
            Self::closing(thought, answered, 0)
        }
    }

    fn closing(thought: &Thought, answered: usize, next: usize) -> Self {
        if next < thought.closing.len() { Self::Closing { answered, next } } else { Self::After { answered } }
    }

    /// The token that comes next whatever the model says.
    pub(super) fn forces(self, request: &Request) -> Option<TokenId> {
        match (self, &request.thought) {
            (Self::Closing { next, .. }, Some(thought)) => Some(thought.closing[next]),
            _ => None,
        }
    }

    /// Where the sample stands after `token`.
    pub(super) fn after(self, token: TokenId, request: &Request) -> Self {
        let Some(thought) = &request.thought else { return self.answer() };
        match self {
            Self::Before { answered } if token == thought.opens => Self::thinking(thought, answered, 0),
            Self::Thinking { answered, .. } if token == thought.ends => Self::After { answered },
            Self::Thinking { answered, spent } => Self::thinking(thought, answered, spent + 1),
            Self::Closing { answered, next } => Self::closing(thought, answered, next + 1),
            Self::Before { .. } | Self::After { .. } => self.answer(),
        }
    }

    fn answer(mut self) -> Self {
        if let Self::Before { answered } | Self::After { answered } = &mut self {
            *answered += 1;
        }
        self
    }

    /// Answer tokens so far; none inside a thought, where the limit on the answer says nothing.
    pub(super) fn answered(self) -> Option<usize> {
        match self {
            Self::Before { answered } | Self::After { answered } => Some(answered),
            Self::Thinking { .. } | Self::Closing { .. } => None,
        }
    }
}
