use crate::device::DeviceError;
use crate::dims;
use crate::ops::head::Scratch;
use crate::qwen3::{Activations, BackwardBuffers, Config, Keep};
use crate::tensor::{Arena, ArenaError, DType, Tensor};

/// Sizes that a pass is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassLimits {
    /// Packed rows of a micro-batch.
    pub rows: usize,
    /// Targets of a micro-batch.
    pub targets: usize,
    /// Rows of one tile of logits.
    pub tile: usize,
    /// What the forward pass keeps.
    pub keep: Keep,
}

/// Buffers of one forward and backward pass.
#[derive(Debug)]
pub struct Pass {
    pub(super) activations: Activations,
    pub(super) backward: Option<BackwardBuffers>,
    /// Gathered rows and their gradients: [targets, C].
    pub(super) x: Tensor,
    pub(super) dx: Option<Tensor>,
    /// Gradient of the normed output: [rows, C].
    pub(super) dhidden: Option<Tensor>,
    pub(super) ids: [Tensor; 2],
    /// Log-probability, LSE, entropy, dL/dlogp, dL/dH: [targets].
    pub(super) columns: [Tensor; 5],
    pub(super) scratch: Scratch,
}

impl Pass {
    /// Carves the buffers; without a backward pass where nothing is kept.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn new(c: &Config, dtype: DType, limits: PassLimits, arena: &mut Arena) -> Result<Self, ArenaError> {
        let PassLimits { rows, targets, tile, keep } = limits;
        let hidden = dims![N: targets, C: c.hidden];
        let activations = Activations::new(c, dtype, keep, rows, arena)?;
        let (mut backward, mut dx, mut dhidden) = (None, None, None);
        if keep != Keep::Nothing {
            backward = Some(BackwardBuffers::new(c, dtype, rows, arena)?);
            dx = Some(arena.tensor(dtype, hidden)?);
            dhidden = Some(arena.tensor(dtype, dims![N: rows, C: c.hidden])?);
        }
        let mut column = || arena.tensor(dtype.accumulator(), dims![N: targets]);
        let columns = [column()?, column()?, column()?, column()?, column()?];
        let mut ids = || arena.tensor(DType::U32, dims![N: targets]);
        let ids = [ids()?, ids()?];
        let scratch = Scratch::new(arena, dtype, tile.min(targets.max(1)), c.vocabulary)?;
        Ok(Self {
            activations,
            backward,
            x: arena.tensor(dtype, hidden)?,
            dx,
            dhidden,
            ids,
            columns,
            scratch,
        })
    }

    /// ln p and dL/dlogp of the first `n` targets of the micro-batch that was accumulated last.
    ///
    /// # Errors
    /// When the device refuses.
    pub(in crate::trainer) fn logprobs_and_slopes(&self, n: usize) -> Result<[Vec<f64>; 2], DeviceError> {
        Ok([self.columns[0].rows(0..n).read()?, self.columns[3].rows(0..n).read()?])
    }
}
