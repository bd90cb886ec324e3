//! The language-model head: hidden rows against the vocabulary, never all logits in memory while training.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`logits`] | z = x wᵀ / T | x [B, C], w [V, C], z [B, V] |
//! | [`token_logprob`] | ln p(target), LSE, entropy of softmax(z) | x [N, C], w [V, C], each output [N] |
//! | [`gradient`] | dx = dz w, dw += dzᵀ x | coefficients [N], dx [N, C], dw [V, C] |
//!
//! The policy is log_softmax(z) over all V rows of w. Scores stay in the accumulator's type until the LSE, whose order is
//! fixed (tiles of [`TILE`] ids, merged ascending); products follow [`product`]'s contract. So the three functions and
//! [`sample`](super::sample) agree to the bit for a row, whatever shares its call. A score that is not finite makes the
//! entropy NaN; infinity and NaN make all three NaN. On a GPU weights are bf16, C and V multiples of 8, and the order of the
//! LSE's sums is that of `kernels/softmax.cuh`.

mod gradient;
mod groups;
mod launch;
mod logits;
mod softmax;
mod token_logprob;
mod work;

use std::ops::Range;

use super::{Leaves, OpError, expect_below, expect_dims, expect_dtype, product};
use crate::dims;
use crate::tensor::{Arena, ArenaError, DType, Dims, Tensor, View, ViewMut};

pub use gradient::{Coefficients, HeadGradient, Lse, gradient};
pub use logits::{inverse_temperature, logits};
pub use softmax::TILE;
pub(super) use softmax::{Softmax, maximum};
pub use token_logprob::token_logprob;
pub use work::{Known, gradient_work, logits_work, token_logprob_work};

/// Hidden rows that predict targets.
#[derive(Clone, Copy, Debug)]
pub struct HeadInput<'a> {
    /// [N, C], the final norm's output, one row a target.
    pub x: View<'a>,
    /// [V, C].
    pub w: View<'a>,
    /// [N] token ids below V.
    pub targets: View<'a>,
    /// 1 / T of the policy; see [`inverse_temperature`].
    pub inv_temperature: f64,
}

/// What the policy says of each target: [N] each, in the accumulator's dtype, overwritten.
#[derive(Debug)]
pub struct Logprobs<'a> {
    /// ln p(target) = z(target) - lse, nats.
    pub logprob: ViewMut<'a>,
    /// ln of the sum of e^z.
    pub lse: ViewMut<'a>,
    /// -sum p ln p, nats.
    pub entropy: ViewMut<'a>,
}

/// Memory for one tile of tokens: the scores, and where storage is narrower than the accumulator their gradient. On a GPU the
/// same memory holds, of as many tokens as fit, a tile of the scores' gradient, and statistics or dx in f32.
///
/// The gradient's sums over tokens run inside a tile. Tiles of a multiple of [`product::LEAF`] rows all give the same bits.
#[derive(Debug)]
pub struct Scratch {
    scores: Tensor,
    narrow: Option<Tensor>,
}

impl Scratch {
    /// For tiles of `rows` tokens over `vocabulary` ids; `storage` is the dtype of x and w.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn new(
        arena: &mut Arena,
        storage: DType,
        rows: usize,
        vocabulary: usize,
    ) -> Result<Self, ArenaError> {
        let dims = dims![N: rows, V: vocabulary];
        let scores = arena.tensor(storage.accumulator(), dims)?;
        let narrow = (storage != storage.accumulator()).then(|| arena.tensor(storage, dims)).transpose()?;
        Ok(Self { scores, narrow })
    }

    fn rows(&self) -> usize {
        self.scores.dims().rows()
    }
}

impl HeadInput<'_> {
    /// N, C, V.
    fn sizes(&self) -> [usize; 3] {
        [self.x.dims().rows(), self.x.dims().row_len(), self.w.dims().rows()]
    }

    fn check(&self, op: &'static str, scratch: &Scratch) -> Result<(), OpError> {
        let [n, c, v] = self.sizes();
        expect_dims(op, "w", self.w.dims(), dims![V: v, C: c])?;
        expect_dtype(op, "w", self.w.dtype(), self.x.dtype())?;
        expect_ids(op, "targets", self.targets, n)?;
        let rows = scratch.rows().max(1);
        expect_dims(op, "scratch", scratch.scores.dims(), dims![N: rows, V: v])?;
        expect_dtype(op, "scratch", scratch.scores.dtype(), self.x.dtype().accumulator())
    }

    /// On the host; a GPU finds no score at an id outside, and reads none.
    fn check_targets(&self, op: &'static str) -> Result<(), OpError> {
        expect_below(op, "target", self.targets.ids(), self.w.dims().rows())
    }

    fn rows(&self, rows: Range<usize>) -> Self {
        Self { x: self.x.rows(rows.clone()), targets: self.targets.rows(rows), ..*self }
    }
}

fn expect_ids(op: &'static str, tensor: &'static str, ids: View<'_>, n: usize) -> Result<(), OpError> {
    expect_dims(op, tensor, ids.dims(), dims![N: n])?;
    expect_dtype(op, tensor, ids.dtype(), DType::U32)
}

/// Checks a [N] vector of the accumulator's dtype.
fn expect_vector(
    op: &'static str,
    tensor: &'static str,
    (dims, dtype): (Dims, DType),
    (n, accumulator): (usize, DType),
) -> Result<(), OpError> {
    expect_dims(op, tensor, dims, dims![N: n])?;
    expect_dtype(op, tensor, dtype, accumulator)
}

impl Logprobs<'_> {
    fn check(&self, op: &'static str, expected: (usize, DType)) -> Result<(), OpError> {
        for (name, view) in [("logprob", &self.logprob), ("lse", &self.lse), ("entropy", &self.entropy)] {
            expect_vector(op, name, (view.dims(), view.dtype()), expected)?;
        }
        Ok(())
    }

    fn reborrow(&mut self) -> Logprobs<'_> {
        let n = self.lse.dims().rows();
        self.rows(0..n)
    }

    fn rows(&mut self, rows: Range<usize>) -> Logprobs<'_> {
        Logprobs {
            logprob: self.logprob.reborrow().rows(rows.clone()),
            lse: self.lse.reborrow().rows(rows.clone()),
            entropy: self.entropy.reborrow().rows(rows),
        }
    }
}
