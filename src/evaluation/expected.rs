use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Judge, JudgeError, Reading};
use crate::record::{Finish, Rollout};
use crate::rollout::{Branches, RolloutError, Sampler, TokenTree};
use crate::rubric::{Ending, Score, Verdict};
use crate::tokenizer::{Specials, TokenId, TokenizerError};

const OPEN: &str = "<score>";
const CLOSE: &str = "</score>";

/// A score as the policy's mean over every way to write one: E = sum(p s) / sum(p), where p is the probability of a score's
/// text with its closing tag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The mean, 1 to 10.
    pub score: f64,
    /// sum(p): how much of the policy goes on with a score at all, 0 to 1.
    pub mass: f64,
}

impl Expected {
    /// From scores and the log-probabilities of their texts; none where no text has a probability above 0.
    pub fn of(scores: &[Score], logprobs: &[f64]) -> Option<Self> {
        let largest = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = logprobs.iter().map(|logprob| (logprob - largest).exp());
        let (sum, weighted) =
            scores.iter().zip(weights).fold((0.0, 0.0), |(sum, weighted), (score, weight)| {
                (sum + weight, weighted + weight * score.value())
            });
        let sound = largest.is_finite() && !logprobs.iter().any(|logprob| logprob.is_nan());
        sound.then(|| Self { score: weighted / sum, mass: sum * largest.exp() })
    }

    /// The mean score of several; none of none.
    pub fn mean(all: &[Self]) -> Option<f64> {
        (!all.is_empty()).then(|| all.iter().map(|one| one.score).sum::<f64>() / all.len() as f64)
    }
}

/// Every text of a score with its closing tag, as tokens.
#[derive(Clone, Debug)]
pub struct Spellings {
    scores: Vec<Score>,
    tree: Arc<TokenTree>,
}

impl Spellings {
    /// Rows of a pass that it takes.
    pub fn rows(&self) -> usize {
        self.tree.rows()
    }

    /// Tokens of the longest text.
    pub fn longest(&self) -> usize {
        self.tree.depth()
    }
}

impl Judge {
    /// The same judge, whose judgements of one response are read as expected scores too.
    ///
    /// # Errors
    /// When the tokenizer joins the tag before a score to the score.
    pub fn expecting(mut self) -> Result<Self, JudgeError> {
        let open = self.tokenizer.encode(OPEN)?;
        let mut texts = Vec::new();
        for (spelling, _) in Score::spellings() {
            let whole = self.tokenizer.encode(&format!("{OPEN}{spelling}{CLOSE}"))?;
            let text = whole.strip_prefix(&open[..]).ok_or(JudgeError::Joined { text: spelling })?;
            texts.push(text.to_vec());
        }
        let scores = Score::spellings().map(|(_, score)| score).collect();
        self.spellings = Some(Spellings { scores, tree: Arc::new(TokenTree::new(&texts)) });
        Ok(self)
    }

    /// Adds the expected scores to the readings of some rollouts, all drawn at one temperature: of every judgement that keeps to the
    /// grammar up to its score. Without [`Judge::expecting`] nothing is added. `watch` hears how many judgements are done, and says
    /// whether to go on.
    ///
    /// # Errors
    /// When a judgement does not fit a pass, an operator refuses, or `watch` does not go on.
    pub fn expect(
        &self,
        sampler: &mut Sampler<'_>,
        rollouts: &[Rollout],
        readings: &mut [Reading],
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<(), RolloutError> {
        let (Some(spellings), Some(first)) = (&self.spellings, rollouts.first()) else { return Ok(()) };
        let stems =
            rollouts.iter().zip(&*readings).map(|(rollout, reading)| self.stem(rollout, &reading.text));
        let stems: Vec<Option<Vec<TokenId>>> = stems.collect::<Result<_, _>>().map_err(refused)?;
        let branches = rollouts.iter().zip(&stems).filter_map(|(rollout, stem)| {
            let (prompt, tree) = (rollout.prompt.clone(), spellings.tree.clone());
            Some(Branches { prompt, stem: stem.clone()?, tree })
        });
        let branches: Vec<Branches> = branches.collect();
        let logprobs = sampler.log_probabilities(first.sampling.temperature, &branches, watch)?;
        let read = readings.iter_mut().zip(&stems).filter(|(_, stem)| stem.is_some());
        for ((reading, _), logprobs) in read.zip(logprobs) {
            reading.expected = Expected::of(&spellings.scores, &logprobs);
        }
        Ok(())
    }

    /// The judgement's tokens up to its `<score>`, where all that stands before it keeps to the grammar.
    fn stem(&self, rollout: &Rollout, text: &str) -> Result<Option<Vec<TokenId>>, TokenizerError> {
        let Some(tag) = text.rfind(OPEN) else { return Ok(None) };
        let forced = &text[..tag + OPEN.len()];
        if Verdict::parse(&format!("{forced}1{CLOSE}"), Ending::Stopped).is_err() {
            return Ok(None);
        }
        // What the prompt had opened stands before the text, and is no token of the completion.
        let opened = text.len() - self.said(rollout).len();
        let forced = &forced[opened..];
        let tokens =
            &rollout.completion[..rollout.completion.len() - usize::from(rollout.finish == Finish::Stop)];
        for count in (0..=tokens.len()).rev() {
            let begun = self.tokenizer.decode(&tokens[..count], Specials::Keep);
            if let Some(rest) = forced.strip_prefix(&begun) {
                // A token that runs past the tag is cut there.
                return Ok(Some([&tokens[..count], &self.tokenizer.encode(rest)?].concat()));
            }
        }
        Ok(None)
    }
}

/// A judgement's own text that can't be encoded: no tokenizer that loads does so.
fn refused(error: TokenizerError) -> RolloutError {
    RolloutError::Request { group: 0, reason: error.to_string() }
}
