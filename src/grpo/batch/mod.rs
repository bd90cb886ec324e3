//! Packing: a step's sequences become leaves of packed rows, and every target gets its weight.
//!
//! A leaf holds whole families (a prompt and completions of it), so that nothing in it depends on another leaf; a micro-batch
//! is any run of leaves joined by [`Packed::join`]. A completion's last token needs no row, and its first is predicted by the
//! prompt's last row: shared prefixes cost one prompt a family.

mod examples;
mod pack;
mod packed;

use crate::record::Rollout;

use super::{Advantage, Life};

pub use examples::{Example, pack_examples};
pub use pack::pack;
pub use packed::{Packed, Stored, Targets};

/// A rollout and what the loss needs beside it.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// What was drawn.
    pub rollout: &'a Rollout,
    /// None: masked, it takes no part.
    pub advantage: Option<Advantage>,
    /// ln p of every completion token under the reference.
    pub reference: Option<&'a [f32]>,
}

/// The rollouts of one prompt.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// All of one prompt.
    pub rollouts: Vec<Scored<'a>>,
    /// Whether it takes part in the policy term.
    pub life: Life,
}

/// Whether the completions of a family share their prompt's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// The prompt is packed once a family.
    #[default]
    Prefix,
    /// Every sequence brings its own prompt: the plain form that tests compare with.
    Off,
}

/// What a step's batch was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Groups handed in.
    pub groups: usize,
    /// Groups in the policy term.
    pub alive: usize,
    /// Groups with fewer than two rewards.
    pub too_few: usize,
    /// Groups with equal rewards.
    pub equal: usize,
    /// Sequences in the batch.
    pub sequences: usize,
    /// Sequences without a reward, left out.
    pub masked: usize,
    /// Targets in the batch.
    pub targets: usize,
    /// Packed rows.
    pub rows: usize,
}

/// One optimizer step's sequences.
#[derive(Clone, Debug, Default)]
pub struct TrainBatch {
    /// Each complete in itself, of at most the asked capacity.
    pub leaves: Vec<Packed>,
    /// What it was made of.
    pub counts: Counts,
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(batches: I) -> Self {
        batches.fold(Self::default(), |all, more| Self {
            groups: all.groups + more.groups,
            alive: all.alive + more.alive,
            too_few: all.too_few + more.too_few,
            equal: all.equal + more.equal,
            sequences: all.sequences + more.sequences,
            masked: all.masked + more.masked,
            targets: all.targets + more.targets,
            rows: all.rows + more.rows,
        })
    }
}
