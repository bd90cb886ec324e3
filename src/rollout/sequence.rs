use std::sync::Arc;

use super::blocks::BlockPool;
use super::engine::Request;
use super::thought::{Stage, Thought};
use crate::ops::kv_append::BLOCK;
use crate::ops::philox::Key;
use crate::ops::sample::{Choice, Draw, Drawn, Truncation};
use crate::record::{Finish, Rollout};
use crate::tokenizer::TokenId;

/// A prompt whose keys and values are being computed.
#[derive(Debug)]
pub(super) struct Prefill {
    pub(super) request: usize,
    pub(super) blocks: Arc<[u32]>,
    /// Prompt tokens done so far.
    pub(super) done: usize,
}

/// One sample being drawn.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) request: usize,
    pub(super) sample: usize,
    /// Blocks of the whole sequence, up to its limit, in order.
    pub(super) blocks: Arc<[u32]>,
    pub(super) drawn: Vec<Drawn>,
    /// Places of the tokens that were not drawn.
    forced: Vec<u32>,
    stage: Stage,
    pub(super) finish: Option<Finish>,
}

impl Request {
    /// Tokens of prompt, thought and answer at most.
    pub(super) fn longest(&self) -> usize {
        self.prompt.len() + self.max_new_tokens + self.thought.as_ref().map_or(0, Thought::longest)
    }

    fn blocks(&self, tokens: usize) -> usize {
        tokens.div_ceil(BLOCK)
    }

    /// Blocks that the prompt fills to the last slot: all samples read the same ones.
    fn shared_blocks(&self) -> usize {
        self.prompt.len() / BLOCK
    }

    /// Blocks of the prompt.
    pub(super) fn prompt_blocks(&self) -> usize {
        self.blocks(self.prompt.len())
    }

    /// Blocks that prompt and all samples need at most.
    pub(super) fn most_blocks(&self) -> usize {
        let own = self.blocks(self.longest()) - self.shared_blocks();
        self.prompt_blocks() + self.seeds.len() * own
    }

    /// Blocks for one sample of a prefilled prompt, and the copy that gives it its own last prompt block.
    pub(super) fn sample_blocks(
        &self,
        prompt: &[u32],
        pool: &mut BlockPool,
    ) -> (Arc<[u32]>, Option<(u32, u32)>) {
        let shared = self.shared_blocks();
        let all = self.blocks(self.longest());
        let blocks: Arc<[u32]> =
            (0..all).map(|i| if i < shared { pool.share(prompt[i]) } else { pool.take() }).collect();
        let copy = prompt.get(shared).map(|&partial| (partial, blocks[shared]));
        (blocks, copy)
    }
}

impl Sequence {
    /// A sample of a prefilled prompt, before its first token.
    pub(super) fn new(request: &Request, place: (usize, usize), blocks: Arc<[u32]>) -> Self {
        let (index, sample) = place;
        let drawn = Vec::with_capacity(request.longest() - request.prompt.len());
        let stage = Stage::first(request);
        Self { request: index, sample, blocks, drawn, forced: Vec::new(), stage, finish: None }
    }

    /// Takes a token in, and ends the sequence where it must.
    pub(super) fn push(&mut self, drawn: Drawn, request: &Request) {
        let token = TokenId(drawn.token);
        if self.stage.forces(request).is_some() {
            self.forced.push(self.drawn.len() as u32);
        } else if request.stop.contains(&token) {
            self.finish = Some(Finish::Stop);
        }
        self.drawn.push(drawn);
        self.stage = self.stage.after(token, request);
        if self.finish.is_none() && self.stage.answered() == Some(request.max_new_tokens) {
            self.finish = Some(Finish::Length);
        }
    }

    /// How its next token is drawn.
    pub(super) fn draw(&self, request: &Request) -> Draw {
        let (seed, sampling) = (request.seeds[self.sample], request.sampling);
        let truncation = Truncation { top_k: sampling.top_k, top_p: sampling.top_p, min_p: sampling.min_p };
        Draw {
            key: Key::of_request(seed.run, seed.step, seed.group, seed.sample),
            position: self.position(request) as u32,
            choice: match self.stage.forces(request) {
                Some(token) => Choice::Forced(token.0),
                None if sampling.temperature == 0.0 => Choice::Greedy,
                None => Choice::Gumbel(truncation),
            },
            vocabulary: request.vocabulary as u32,
        }
    }

    /// Position of the token that is drawn next.
    pub(super) fn position(&self, request: &Request) -> usize {
        request.prompt.len() + self.drawn.len()
    }

    pub(super) fn into_rollout(self, request: &Request, weights_version: u64) -> Rollout {
        let column = |f: fn(&Drawn) -> f64| self.drawn.iter().map(|d| f(d) as f32).collect();
        Rollout {
            prompt: request.prompt.clone(),
            group: request.group,
            completion: self.drawn.iter().map(|d| TokenId(d.token)).collect(),
            logprob: column(|d| d.logprob),
            lse: column(|d| d.lse),
            entropy: column(|d| d.entropy),
            forced: self.forced,
            sampling: request.sampling,
            weights_version,
            seed: request.seeds[self.sample],
            finish: self.finish.unwrap_or(Finish::Length),
        }
    }
}
