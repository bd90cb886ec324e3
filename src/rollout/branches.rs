use std::ops::ControlFlow;
use std::sync::Arc;

use super::engine::goes_on;
use super::tree::{Go, append};
use super::{Engine, RolloutError, TokenTree};
use crate::device::Stream;
use crate::ops::philox::Key;
use crate::ops::sample::{self, Choice, Draw, Drawn};
use crate::ops::{OpError, head, rows};
use crate::qwen3::{self, Model, Packed};
use crate::tokenizer::TokenId;

/// A prompt, what was written after it, and the ways in which it may go on.
#[derive(Clone, Debug)]
pub struct Branches {
    /// Prompt tokens, at least one; neighbours with the same prompt share its rows.
    pub prompt: Arc<[TokenId]>,
    /// Tokens after the prompt, before the tree.
    pub stem: Vec<TokenId>,
    /// The continuations.
    pub tree: Arc<TokenTree>,
}

/// A pass being packed: some branches, and what is asked of each.
#[derive(Default)]
struct Pass<'a> {
    batch: Packed,
    /// Row and token of every target, branches one after the other.
    targets: Vec<(u32, u32)>,
    branches: Vec<&'a Branches>,
    /// Span of the last prompt.
    prompt: Option<usize>,
}

impl Branches {
    fn rows(&self) -> usize {
        self.prompt.len() + self.stem.len() + self.tree.rows()
    }
}

impl<'a> Pass<'a> {
    fn shares_prompt(&self, next: &Branches) -> bool {
        self.branches.last().is_some_and(|last| last.prompt == next.prompt)
    }

    /// Rows that `next` would add.
    fn more(&self, next: &Branches) -> usize {
        next.rows() - if self.shares_prompt(next) { next.prompt.len() } else { 0 }
    }

    fn push(&mut self, next: &'a Branches) {
        let shared = self.prompt.filter(|_| self.shares_prompt(next));
        let batch = &mut self.batch;
        let prompt = shared.unwrap_or_else(|| append(batch, &next.prompt, 0, Go::From(None)));
        self.prompt = Some(prompt);
        let (mut stem, mut row) = (prompt, batch.spans[prompt].queries.end as u32 - 1);
        if !next.stem.is_empty() {
            stem = append(batch, &next.stem, next.prompt.len(), Go::From(Some(prompt)));
            row = batch.len() as u32 - 1;
        }
        let position = next.prompt.len() + next.stem.len() - 1;
        self.targets.extend(next.tree.pack(batch, (stem, row, position)));
        self.branches.push(next);
    }
}

impl Engine {
    /// Log-probability, under log_softmax(logits / T), of every continuation of every one of `all`, in their order: the sums over
    /// its tokens of what the training forward computes, bit for bit. As many as fit share one pass without a cache. `watch` hears
    /// how many are done, after each pass, and says whether to go on.
    ///
    /// # Errors
    /// When one alone does not fit a pass or the model's positions, an operator refuses, or `watch` does not go on.
    pub fn log_probabilities(
        &mut self,
        (stream, model): (&Stream, &Model),
        temperature: f32,
        all: &[Branches],
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f64>>, RolloutError> {
        let mut sums = Vec::with_capacity(all.len());
        let mut pass = Pass::default();
        for (place, branches) in all.iter().enumerate() {
            self.check_branches(place, branches, model)?;
            if pass.batch.len() + pass.more(branches) > self.limits.tokens {
                sums.extend(self.run((stream, model), temperature, &std::mem::take(&mut pass))?);
                goes_on(watch(sums.len()))?;
            }
            pass.push(branches);
        }
        sums.extend(self.run((stream, model), temperature, &pass)?);
        goes_on(watch(sums.len()))?;
        Ok(sums)
    }

    fn check_branches(&self, place: usize, branches: &Branches, model: &Model) -> Result<(), RolloutError> {
        let longest = branches.prompt.len() + branches.stem.len() + branches.tree.depth();
        let (room, tokens) = (model.rope.positions(), self.limits.tokens);
        let reason = match () {
            () if branches.prompt.is_empty() => "the prompt is empty".into(),
            () if longest > room => format!("{longest} tokens at most, the model was loaded for {room}"),
            () if branches.rows() > tokens => format!(
                "{} tokens with all that may follow, one pass holds {tokens}: raise rollout.tokens_per_pass",
                branches.rows()
            ),
            () => return Ok(()),
        };
        Err(RolloutError::Request { group: place as u32, reason })
    }

    /// One pass over what was packed.
    fn run(
        &mut self,
        (stream, model): (&Stream, &Model),
        temperature: f32,
        pass: &Pass<'_>,
    ) -> Result<Vec<Vec<f64>>, RolloutError> {
        if pass.branches.is_empty() {
            return Ok(Vec::new());
        }
        qwen3::forward(stream, model, &pass.batch, &mut self.buffers, None)?;
        let mut values = Vec::with_capacity(pass.targets.len());
        for some in pass.targets.chunks(self.limits.sequences) {
            values.extend(self.measure((stream, model), temperature, some)?);
        }
        let mut values = &values[..];
        let sums = pass.branches.iter().map(|branches| {
            let (own, others) = values.split_at(branches.tree.nodes());
            values = others;
            branches.tree.sums(own)
        });
        Ok(sums.collect())
    }

    /// ln p of some targets, (row, token) each, from the hidden rows of the last pass.
    fn measure(
        &mut self,
        (stream, model): (&Stream, &Model),
        temperature: f32,
        targets: &[(u32, u32)],
    ) -> Result<Vec<f64>, RolloutError> {
        let n = targets.len();
        let Self { buffers, picked, hidden, logits, .. } = self;
        let places: Vec<u32> = targets.iter().map(|(row, _)| *row).collect();
        picked.rows_mut(0..n).write_ids(&places).map_err(OpError::from)?;
        rows::gather(stream, buffers.hidden(buffers.capacity), picked.rows(0..n), hidden.rows_mut(0..n))?;
        let weight = model.params.get(model.params.head_id());
        let scale = head::inverse_temperature(temperature);
        head::logits(stream, hidden.rows(0..n), weight, scale, logits.rows_mut(0..n))?;
        let draw = |&(_, token): &(u32, u32)| Draw {
            key: Key::of_request(0, 0, 0, 0),
            position: 0,
            choice: Choice::Forced(token),
            vocabulary: model.config.vocabulary as u32,
        };
        let draws: Vec<Draw> = targets.iter().map(draw).collect();
        let mut drawn = vec![Drawn::default(); n];
        sample::forward(stream, logits.rows(0..n), &draws, &mut drawn)?;
        Ok(drawn.into_iter().map(|drawn| drawn.logprob).collect())
    }
}
