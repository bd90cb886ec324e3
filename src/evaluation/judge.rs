use std::sync::Arc;

use crate::preference::PreferencePair;
use crate::record::{Finish, Rollout, Sampling, SeedKey};
use crate::reward::{self, Judgement};
use crate::rollout::Request;
use crate::rubric::{RubricError, RubricSet, Verdict, VerdictError};
use crate::tokenizer::{ChatOptions, Message, Specials, TokenId, Tokenizer, TokenizerError};

/// Turns responses into judge prompts and judgements into verdicts.
#[derive(Debug)]
pub struct Judge {
    /// Task-adaptive rubrics and layouts.
    pub rubric: RubricSet,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// How the model's turn is opened.
    pub chat: ChatOptions,
    /// Longest judgement, tokens.
    pub max_new_tokens: usize,
}

/// One response in its context.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Name of the judging task.
    pub task: &'a str,
    /// The conversation it replies to.
    pub messages: &'a [Message],
    /// The response.
    pub response: &'a str,
}

/// A judgement as people read it.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What the model wrote, without its end-of-sequence token.
    pub text: String,
    /// The verdict, or why there is none.
    pub verdict: Result<Verdict, VerdictError>,
}

impl Reading {
    /// What the reward sees of it.
    pub fn judgement(&self) -> Judgement {
        Judgement::from(&self.verdict)
    }
}

/// Why a response can't be put to the judge.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// No such task, or a layout that can't show the conversation.
    #[error(transparent)]
    Rubric(#[from] RubricError),
    /// No chat template, or one that refuses.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl Judge {
    /// Tokens of the judge prompt for one response.
    ///
    /// # Errors
    /// When the task is unknown or the chat template refuses.
    pub fn prompt(&self, subject: Subject<'_>) -> Result<Arc<[TokenId]>, JudgeError> {
        let messages = self.rubric.judge_prompt(subject.task, subject.messages, subject.response)?;
        Ok(self.tokenizer.encode_chat(&messages, &self.chat)?.into())
    }

    /// Tokens of both sides' prompts.
    ///
    /// # Errors
    /// As [`Judge::prompt`].
    pub fn pair(&self, pair: &PreferencePair) -> Result<[Arc<[TokenId]>; 2], JudgeError> {
        let side = |response| self.prompt(Subject { task: &pair.task, messages: &pair.messages, response });
        Ok([side(&pair.chosen)?, side(&pair.rejected)?])
    }

    /// A request for judgements of a prompt, one for each seed.
    pub fn request(
        &self,
        prompt: Arc<[TokenId]>,
        group: u32,
        seeds: Vec<SeedKey>,
        sampling: Sampling,
    ) -> Request {
        let stop = self.tokenizer.eos().into();
        let (vocabulary, max_new_tokens) = (self.tokenizer.vocab_size(), self.max_new_tokens);
        Request { prompt, group, seeds, sampling, stop, vocabulary, max_new_tokens, thought: None }
    }

    /// Reads a rollout's verdict.
    pub fn read(&self, rollout: &Rollout) -> Reading {
        let end = usize::from(rollout.finish == Finish::Stop);
        let said = &rollout.completion[..rollout.completion.len() - end];
        let text = self.tokenizer.decode(said, Specials::Keep);
        let verdict = reward::read(&text, rollout.finish);
        Reading { text, verdict }
    }
}
