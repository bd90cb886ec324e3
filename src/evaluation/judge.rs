use std::sync::Arc;

use super::{Expected, Mode, PairJudgement, Spellings, thinking};
use crate::preference::PreferencePair;
use crate::record::{Finish, Rollout, Sampling, SeedKey};
use crate::reward::{self, Judgement};
use crate::rollout::{Request, Thought};
use crate::rubric::{PairVerdict, RubricError, RubricSet, Verdict, VerdictError};
use crate::tokenizer::{ChatOptions, Message, Specials, Thinking, TokenId, Tokenizer, TokenizerError};

/// Turns responses into judge prompts and judgements into verdicts.
#[derive(Debug)]
pub struct Judge {
    /// Task-adaptive rubrics and layouts.
    pub rubric: RubricSet,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// How the model's turn is opened.
    pub chat: ChatOptions,
    /// Longest judgement, tokens; a thought does not count.
    pub max_new_tokens: usize,
    /// How it thinks before it judges, if it does: see [`Judge::thinking`].
    pub thought: Option<Thought>,
    /// What expected scores are read from, where they are: see [`Judge::expecting`].
    pub spellings: Option<Spellings>,
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

/// A judgement as people read it: of one response, or of two side by side.
#[derive(Clone, Debug)]
pub struct Reading<V = Verdict> {
    /// What the model wrote, without its end-of-sequence token.
    pub text: String,
    /// The verdict, or why there is none.
    pub verdict: Result<V, VerdictError>,
    /// The score as a mean over all ways to write one, where it was asked for and the judgement came so far.
    pub expected: Option<Expected>,
}

impl Reading {
    /// What the reward sees of it.
    pub fn judgement(&self) -> Judgement {
        Judgement::from(&self.verdict)
    }
}

impl Reading<PairVerdict> {
    /// The two scores in the order shown.
    ///
    /// # Errors
    /// The kind of failure where there are none.
    pub fn scores(&self) -> PairJudgement {
        self.verdict.as_ref().map(|verdict| verdict.scores).map_err(VerdictError::kind)
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
    /// The model does not think on request.
    #[error(
        "rollout.thinking is \"on\", but {reason}: this model has no thinking to turn on; leave it \"off\""
    )]
    Thinking {
        /// What is missing.
        reason: String,
    },
    /// `<score>` and what follows share a token.
    #[error(
        "evaluation.reading is \"expected\", but the tokenizer joins `<score>` to the `{text}` that follows it; leave it \"parsed\""
    )]
    Joined {
        /// A score.
        text: String,
    },
}

/// How the judge's turn is opened.
pub(super) fn chat(thinking: Thinking) -> ChatOptions {
    ChatOptions { thinking, ..ChatOptions::default() }
}

impl Judge {
    /// A judge that answers at once, in at most `max_new_tokens` tokens.
    pub fn new(rubric: RubricSet, tokenizer: Tokenizer, max_new_tokens: usize) -> Self {
        let chat = chat(Thinking::Off);
        Self { rubric, tokenizer, chat, max_new_tokens, thought: None, spellings: None }
    }

    /// Tokens that follow a prompt at most: thought and judgement, or the longest text of a score after it.
    pub fn longest(&self) -> usize {
        let thought = self.thought.as_ref().map_or(0, Thought::longest);
        self.max_new_tokens + thought + self.spellings.as_ref().map_or(0, Spellings::longest)
    }

    /// Tokens of the judge prompt for one response.
    ///
    /// # Errors
    /// When the task is unknown or the chat template refuses.
    pub fn prompt(&self, subject: Subject<'_>) -> Result<Arc<[TokenId]>, JudgeError> {
        let messages = self.rubric.judge_prompt(subject.task, subject.messages, subject.response)?;
        Ok(self.tokenizer.encode_chat(&messages, &self.chat)?.into())
    }

    /// Tokens of a pair's two prompts: of the chosen and the rejected side, or with the chosen response first and with the
    /// rejected one first.
    ///
    /// # Errors
    /// As [`Judge::prompt`].
    pub fn pair(&self, pair: &PreferencePair, mode: Mode) -> Result<[Arc<[TokenId]>; 2], JudgeError> {
        let (chosen, rejected) = (pair.chosen.as_str(), pair.rejected.as_str());
        let alone = |response| self.prompt(Subject { task: &pair.task, messages: &pair.messages, response });
        let both = |order| -> Result<Arc<[TokenId]>, JudgeError> {
            let messages = self.rubric.pair_prompt(&pair.task, &pair.messages, order)?;
            Ok(self.tokenizer.encode_chat(&messages, &self.chat)?.into())
        };
        Ok(match mode {
            Mode::Pointwise => [alone(chosen)?, alone(rejected)?],
            Mode::Pairwise => [both([chosen, rejected])?, both([rejected, chosen])?],
        })
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
        Request {
            prompt,
            group,
            seeds,
            sampling,
            stop,
            vocabulary,
            max_new_tokens,
            thought: self.thought.clone(),
        }
    }

    /// Reads a rollout's verdict.
    pub fn read(&self, rollout: &Rollout) -> Reading {
        let text = self.text(rollout);
        let verdict = reward::read(&text, rollout.finish);
        Reading { text, verdict, expected: None }
    }

    /// Reads a rollout's verdict on two responses side by side.
    pub fn read_pair(&self, rollout: &Rollout) -> Reading<PairVerdict> {
        let text = self.text(rollout);
        let verdict = reward::read_pair(&text, rollout.finish);
        Reading { text, verdict, expected: None }
    }

    /// What a rollout says, with the opening of a thought that the prompt began.
    fn text(&self, rollout: &Rollout) -> String {
        let opened = self.thought.as_ref().is_some_and(|thought| thought.is_open_in(&rollout.prompt));
        let said = self.said(rollout);
        if opened { format!("{}{said}", thinking::TAGS[0]) } else { said }
    }

    /// What a rollout itself says, without its end-of-sequence token.
    pub(super) fn said(&self, rollout: &Rollout) -> String {
        let end = usize::from(rollout.finish == Finish::Stop);
        let said = &rollout.completion[..rollout.completion.len() - end];
        self.tokenizer.decode(said, Specials::Keep)
    }
}
