//! Draws one token per row of scores z = logits / T, and says what the policy thought of it.
//!
//! logits [B, V] in the accumulator's dtype; one [`Draw`] and one [`Drawn`] a row. Reads B V elements twice; on a GPU once, and
//! truncated rows up to seven times more.
//!
//! Gumbel-max: the token is the id with the largest z + g, where g = -ln(-ln u) and u = (word + 1/2) / 2^32 with the
//! [`philox`](super::philox) word of (request, position, id); the lowest id wins a tie. So a row's token depends on nothing but
//! its scores and its key. Truncation and padding rows restrict what may be drawn; log-probability, LSE and entropy are always
//! those of softmax(z) over all V ids, with the bits that [`head`](super::head) computes in training. Greedy drawing takes the
//! largest score; its caller scores with T = 1.

mod launch;
mod race;
mod truncation;
mod work;

use super::head::{Softmax, maximum};
use super::philox::Key;
use super::{OpError, expect_dims, expect_dtype};
use crate::device::{Device, Float, Host, Stream};
use crate::dims;
use crate::tensor::{Element, View};

pub use work::work;

/// Which ids may be drawn. Order as in transformers: `top_k`, then `top_p` of what is left, then `min_p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truncation {
    /// Keep the `top_k` largest scores, lower ids first among equals; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of largest scores whose probability reaches `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Drop ids less likely than `min_p` times the most likely one; 0 keeps all.
    pub min_p: f32,
}

impl Truncation {
    /// Every id may be drawn.
    pub const NONE: Self = Self { top_k: 0, top_p: 1.0, min_p: 0.0 };
}

/// How a row's token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The largest score; the lowest id among equals.
    Greedy,
    /// By Gumbel-max among the ids that the truncation keeps.
    Gumbel(Truncation),
    /// This id, whatever the scores say.
    Forced(u32),
}

/// What one row asks for.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// The request's random numbers.
    pub key: Key,
    /// Position of the drawn token in its sequence.
    pub position: u32,
    /// How to choose.
    pub choice: Choice,
    /// Ids from here on are padding rows of the head and never drawn.
    pub vocabulary: u32,
}

/// A drawn token; the numbers are exact values of the accumulator's type.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// ln p(token), nats.
    pub logprob: f64,
    /// ln of the sum of e^z.
    pub lse: f64,
    /// -sum p ln p, nats. NaN where a score is not finite.
    pub entropy: f64,
}

/// Draws a token for every row.
///
/// # Errors
/// When shapes or dtypes do not fit, a row's vocabulary is empty or larger than V, or a forced id lies outside it.
pub fn forward(stream: &Stream, logits: View<'_>, draws: &[Draw], out: &mut [Drawn]) -> Result<(), OpError> {
    const OP: &str = "sample_forward";
    let v = logits.dims().row_len();
    expect_dims(OP, "logits", logits.dims(), dims![B: draws.len(), V: v])?;
    expect_dtype(OP, "logits", logits.dtype(), logits.dtype().accumulator())?;
    let unfit = |draw: &Draw| draw.vocabulary == 0 || draw.vocabulary as usize > v;
    if let Some(row) = draws.iter().position(unfit) {
        let reason = format!("row {row} allows {} ids of {v}", draws[row].vocabulary);
        return Err(OpError::Argument { op: OP, reason });
    }
    let outside = |draw: &Draw| matches!(draw.choice, Choice::Forced(id) if id >= draw.vocabulary);
    if let Some(row) = draws.iter().position(outside) {
        let reason = format!("row {row} forces an id outside its {} ids", draws[row].vocabulary);
        return Err(OpError::Argument { op: OP, reason });
    }
    if out.len() != draws.len() {
        let reason = format!("{} places for {} rows", out.len(), draws.len());
        return Err(OpError::Argument { op: OP, reason });
    }
    match stream.launch(OP) {
        Device::Host(host) => crate::with_float!(logits.dtype(), T => {
            rows(host, logits.host::<<T as Element>::Acc>(), draws, out);
        }),
        Device::Cuda(cuda) => launch::rows(OP, cuda, logits, draws, out)?,
    }
    Ok(())
}

fn rows<A: Float>(host: &Host, z: &[A], draws: &[Draw], out: &mut [Drawn]) {
    if draws.is_empty() {
        return;
    }
    let rows = z.chunks(z.len() / draws.len()).zip(draws).zip(out);
    host.run(rows.collect(), |((z, draw), out)| {
        let softmax = Softmax::of(z);
        let token = token(&z[..draw.vocabulary as usize], draw);
        let lse = softmax.lse();
        let logprob = z[token as usize] - lse;
        *out = Drawn {
            token,
            logprob: logprob.to_f64(),
            lse: lse.to_f64(),
            entropy: softmax.entropy().to_f64(),
        };
    });
}

fn token<A: Float>(z: &[A], draw: &Draw) -> u32 {
    match draw.choice {
        Choice::Forced(id) => id,
        Choice::Greedy => largest(z),
        Choice::Gumbel(Truncation::NONE) => race::among_all(z, largest(z), draw),
        Choice::Gumbel(truncation) => race::among(z, &truncation::kept(z, truncation), draw),
    }
}

/// The lowest id of the largest score; 0 where every score is NaN.
fn largest<A: Float>(z: &[A]) -> u32 {
    let max = maximum(z);
    z.iter().position(|score| *score == max).unwrap_or(0) as u32
}
