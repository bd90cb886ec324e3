use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::blocks::BlockPool;
use super::sequence::{Prefill, Sequence};
use super::thought::Thought;
use crate::device::{Stream, range};
use crate::dims;
use crate::ops::attention::{Source, Span};
use crate::ops::kv_append::BLOCK;
use crate::ops::sample::{self, Draw, Drawn};
use crate::ops::{OpError, head, kv_copy, rows};
use crate::qwen3::{self, Activations, Config, Keep, Model, Packed, kv_pool_dims};
use crate::record::{Rollout, Sampling, SeedKey};
use crate::tensor::{Arena, ArenaError, DType, Tensor};
use crate::tokenizer::TokenId;

/// One prompt and the samples wanted of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Prompt tokens, at least one.
    pub prompt: Arc<[TokenId]>,
    /// Carried into the rollouts.
    pub group: u32,
    /// One sample for each key.
    pub seeds: Vec<SeedKey>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that end a completion.
    pub stop: Arc<[TokenId]>,
    /// Ids that the tokenizer knows; the head's rows from there on are padding and never drawn.
    pub vocabulary: usize,
    /// Longest completion, tokens, at least one; a thought does not count.
    pub max_new_tokens: usize,
    /// Whether a thought may come before the answer, and for how long; none: nothing is told apart and nothing forced.
    pub thought: Option<Thought>,
}

/// Sizes that the engine's memory is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Packed tokens of one forward pass.
    pub tokens: usize,
    /// Sequences that are drawn from at once.
    pub sequences: usize,
    /// KV blocks of 64 positions.
    pub blocks: usize,
}

impl Limits {
    /// No more than `prompts` (lengths in tokens) with `samples` judgements each can use; no less than the largest one needs.
    pub fn fitting(self, prompts: &[usize], samples: usize, max_new_tokens: usize) -> Self {
        let blocks = |&prompt: &usize| {
            let own = (prompt + max_new_tokens).div_ceil(BLOCK) - prompt / BLOCK;
            prompt.div_ceil(BLOCK) + samples * own
        };
        let (most, all) = (prompts.iter().map(blocks).max(), prompts.iter().map(blocks).sum::<usize>());
        Self {
            tokens: self.tokens.min(prompts.iter().sum()).max(1),
            sequences: self.sequences.min(prompts.len() * samples).max(samples),
            blocks: self.blocks.min(all).max(most.unwrap_or(1)),
        }
    }
}

/// Why sampling stopped.
#[derive(Debug, thiserror::Error)]
#[allow(clippy::large_enum_variant)] // a refusal carries both shapes; it ends the run
pub enum RolloutError {
    /// A request can't be served by this engine at all.
    #[error("request of group {group}: {reason}")]
    Request {
        /// Which one.
        group: u32,
        /// What does not fit.
        reason: String,
    },
    /// Whoever watched wanted it to end; what was drawn is gone.
    #[error("sampling was asked to end")]
    Stopped,
    /// An operator refused.
    #[error(transparent)]
    Op(#[from] OpError),
}

/// Buffers and KV pool for sampling from a model of one shape.
#[derive(Debug)]
pub struct Engine {
    pub(super) limits: Limits,
    pub(super) buffers: Activations,
    pool: Tensor,
    pub(super) picked: Tensor,
    pub(super) hidden: Tensor,
    pub(super) logits: Tensor,
}

impl Engine {
    /// Carves the engine's memory.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn new(c: &Config, dtype: DType, limits: Limits, arena: &mut Arena) -> Result<Self, ArenaError> {
        let rows = limits.sequences;
        Ok(Self {
            limits,
            buffers: Activations::new(c, dtype, Keep::Nothing, limits.tokens.max(rows), arena)?,
            pool: arena.tensor(dtype, kv_pool_dims(c, limits.blocks))?,
            picked: arena.tensor(DType::U32, dims![N: rows])?,
            hidden: arena.tensor(dtype, dims![B: rows, C: c.hidden])?,
            logits: arena.tensor(dtype.accumulator(), dims![B: rows, V: c.vocabulary])?,
        })
    }

    /// Serves all requests; rollouts come back in their order, samples of a request together. `watch` hears how many samples
    /// have ended and how many tokens have been drawn, after each pass over the model, and says whether to go on.
    ///
    /// # Errors
    /// When a request does not fit the engine, an operator refuses, or `watch` does not go on.
    pub fn generate(
        &mut self,
        stream: &Stream,
        model: &Model,
        weights_version: u64,
        requests: &[Request],
        watch: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Rollout>, RolloutError> {
        requests.iter().try_for_each(|request| self.check(request, model))?;
        let mut run = Run::new(self, stream, model, requests);
        let mut done: Vec<Sequence> = Vec::new();
        let mut tokens = 0;
        loop {
            run.admit();
            while run.prefill()? {
                goes_on(watch(done.len(), tokens))?;
            }
            tokens += run.decode()?;
            done.extend(run.retire());
            goes_on(watch(done.len(), tokens))?;
            if run.is_idle() {
                break;
            }
        }
        done.sort_by_key(|s| (s.request, s.sample));
        Ok(done
            .into_iter()
            .map(|s| (s.request, s))
            .map(|(r, s)| s.into_rollout(&requests[r], weights_version))
            .collect())
    }

    fn check(&self, request: &Request, model: &Model) -> Result<(), RolloutError> {
        let longest = request.longest();
        let reason = match () {
            () if request.prompt.is_empty() => "the prompt is empty".into(),
            () if request.max_new_tokens == 0 => "no token is asked for".into(),
            () if longest > model.rope.positions() => {
                format!("{longest} tokens at most, the model was loaded for {}", model.rope.positions())
            }
            () if request.most_blocks() > self.limits.blocks => {
                format!("needs {} KV blocks, the pool has {}", request.most_blocks(), self.limits.blocks)
            }
            () if request.seeds.len() > self.limits.sequences => {
                format!(
                    "{} samples, at most {} are drawn at once",
                    request.seeds.len(),
                    self.limits.sequences
                )
            }
            () => return Ok(()),
        };
        Err(RolloutError::Request { group: request.group, reason })
    }
}

/// One call of [`Engine::generate`].
struct Run<'a> {
    engine: &'a mut Engine,
    stream: &'a Stream,
    model: &'a Model,
    requests: &'a [Request],
    waiting: VecDeque<usize>,
    blocks: BlockPool,
    /// Blocks and sequences promised to admitted requests and not yet handed out.
    promised: usize,
    prefilling: VecDeque<Prefill>,
    active: Vec<Sequence>,
}

impl<'a> Run<'a> {
    fn new(engine: &'a mut Engine, stream: &'a Stream, model: &'a Model, requests: &'a [Request]) -> Self {
        let blocks = BlockPool::new(engine.limits.blocks);
        let waiting = (0..requests.len()).filter(|&r| !requests[r].seeds.is_empty()).collect();
        Self {
            engine,
            stream,
            model,
            requests,
            waiting,
            blocks,
            promised: 0,
            prefilling: VecDeque::new(),
            active: Vec::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.prefilling.is_empty() && self.active.is_empty()
    }

    /// Admits waiting requests, in order, while everything they can ever need is free.
    fn admit(&mut self) {
        let coming: usize = self.prefilling.iter().map(|p| self.requests[p.request].seeds.len()).sum();
        let mut sequences = self.active.len() + coming;
        while let Some(&r) = self.waiting.front() {
            let request = &self.requests[r];
            sequences += request.seeds.len();
            if sequences > self.engine.limits.sequences
                || request.most_blocks() > self.blocks.free() - self.promised
            {
                return;
            }
            self.waiting.pop_front();
            let blocks: Arc<[u32]> = (0..request.prompt_blocks()).map(|_| self.blocks.take()).collect();
            self.promised += request.most_blocks() - blocks.len();
            self.prefilling.push_back(Prefill { request: r, blocks, done: 0 });
        }
    }

    /// Runs prompt tokens, as many as one pass holds, and starts the samples of prompts that are complete; says whether there
    /// were any.
    fn prefill(&mut self) -> Result<bool, RolloutError> {
        let mut batch = Packed::default();
        let mut complete = Vec::new();
        while let Some(prefill) = self.prefilling.front_mut() {
            let prompt = &self.requests[prefill.request].prompt;
            let room = self.engine.limits.tokens - batch.len();
            let piece = room.min(prompt.len() - prefill.done);
            if piece == 0 {
                break;
            }
            append(&mut batch, &prompt[prefill.done..prefill.done + piece], prefill.done, &prefill.blocks);
            prefill.done += piece;
            if prefill.done == prompt.len() {
                complete.extend(self.prefilling.pop_front().map(|p| (p, batch.len() as u32 - 1)));
            }
        }
        if batch.is_empty() {
            return Ok(false);
        }
        let _prefill = range("prefill");
        self.forward(&batch)?;
        self.start(complete)?;
        Ok(true)
    }

    /// Gives each sample of the complete prompts its blocks and draws its first token.
    fn start(&mut self, complete: Vec<(Prefill, u32)>) -> Result<(), RolloutError> {
        let (mut copies, mut rows, mut started) = (Vec::new(), Vec::new(), Vec::new());
        for (prefill, row) in &complete {
            let request = &self.requests[prefill.request];
            for sample in 0..request.seeds.len() {
                let (blocks, copy) = request.sample_blocks(&prefill.blocks, &mut self.blocks);
                copies.extend(copy);
                rows.push(*row);
                started.push(Sequence::new(request, (prefill.request, sample), blocks));
            }
            self.promised -= request.most_blocks() - request.prompt_blocks();
        }
        kv_copy::forward(self.stream, self.engine.pool.view_mut(), &copies)?;
        // Not before: a block that is copied from must not be given to the next request to copy to.
        complete
            .iter()
            .flat_map(|(prefill, _)| &*prefill.blocks)
            .for_each(|&block| self.blocks.give_back(block));
        let first = self.active.len();
        self.active.extend(started);
        self.draw(first, &rows)
    }

    /// Runs the last drawn token of every active sequence and draws the next; returns how many were drawn.
    fn decode(&mut self) -> Result<usize, RolloutError> {
        let going: Vec<&Sequence> = self.active.iter().filter(|s| s.finish.is_none()).collect();
        if going.is_empty() {
            return Ok(0);
        }
        let mut batch = Packed::default();
        for sequence in &going {
            let last = sequence.drawn.last().expect("a started sequence has a token").token;
            let position = sequence.position(&self.requests[sequence.request]) - 1;
            append(&mut batch, &[TokenId(last)], position, &sequence.blocks);
        }
        let ended = self.retire_in_place();
        let _decode = range("decode");
        self.forward(&batch)?;
        let rows: Vec<u32> = (0..batch.len() as u32).collect();
        self.draw(0, &rows)?;
        self.active.extend(ended);
        Ok(rows.len())
    }

    fn forward(&mut self, batch: &Packed) -> Result<(), RolloutError> {
        let Engine { buffers, pool, .. } = &mut *self.engine;
        Ok(qwen3::forward(self.stream, self.model, batch, buffers, Some(pool.view_mut()))?)
    }

    /// Draws a token for each active sequence from `first` on, from the hidden rows of the last pass.
    fn draw(&mut self, first: usize, rows: &[u32]) -> Result<(), RolloutError> {
        let n = rows.len();
        if n == 0 {
            return Ok(());
        }
        let _draw = range("draw");
        let Engine { buffers, picked, hidden, logits, .. } = &mut *self.engine;
        picked.rows_mut(0..n).write_ids(rows).map_err(OpError::from)?;
        let all = buffers.hidden(buffers.capacity);
        rows::gather(self.stream, all, picked.rows(0..n), hidden.rows_mut(0..n))?;
        let weight = self.model.params.get(self.model.params.head_id());
        let mut drawn = Vec::with_capacity(n);
        // Scores are scaled by the row's own temperature, so neighbours of one temperature share a call.
        let temperature = |s: &Sequence| self.requests[s.request].sampling.temperature;
        for group in self.active[first..].chunk_by(|a, b| temperature(a) == temperature(b)) {
            let range = drawn.len()..drawn.len() + group.len();
            let scale = head::inverse_temperature(temperature(&group[0]));
            head::logits(
                self.stream,
                hidden.rows(range.clone()),
                weight,
                scale,
                logits.rows_mut(range.clone()),
            )?;
            let draws: Vec<Draw> = group.iter().map(|s| s.draw(&self.requests[s.request])).collect();
            drawn.resize(range.end, Drawn::default());
            sample::forward(self.stream, logits.rows(range.clone()), &draws, &mut drawn[range])?;
        }
        for (sequence, drawn) in self.active[first..].iter_mut().zip(drawn) {
            sequence.push(drawn, &self.requests[sequence.request]);
        }
        Ok(())
    }

    /// Removes ended sequences from the active ones without freeing their blocks yet.
    fn retire_in_place(&mut self) -> Vec<Sequence> {
        self.active.extract_if(.., |s| s.finish.is_some()).collect()
    }

    /// Removes ended sequences and frees their blocks.
    fn retire(&mut self) -> Vec<Sequence> {
        let ended = self.retire_in_place();
        for block in ended.iter().flat_map(|s| s.blocks.iter()) {
            self.blocks.give_back(*block);
        }
        ended
    }
}

pub(super) fn goes_on(flow: ControlFlow<()>) -> Result<(), RolloutError> {
    if flow.is_break() { Err(RolloutError::Stopped) } else { Ok(()) }
}

/// Packs `tokens` at positions from `start` on into the sequence that lives in `blocks`.
fn append(batch: &mut Packed, tokens: &[TokenId], start: usize, blocks: &Arc<[u32]>) {
    let first = batch.len();
    for (i, token) in tokens.iter().enumerate() {
        let position = start + i;
        batch.tokens.push(token.0);
        batch.positions.push(position as u32);
        batch.slots.push(blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32);
    }
    batch.spans.push(Span {
        queries: first..batch.len(),
        start,
        source: Source::Paged { blocks: blocks.clone() },
    });
}
