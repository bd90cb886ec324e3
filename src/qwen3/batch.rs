use crate::device::DeviceError;
use crate::dims;
use crate::ops::attention::Span;
use crate::tensor::{Arena, ArenaError, DType, Tensor, View};

/// Packed tokens of several sequences, without padding.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Token id of each packed row.
    pub tokens: Vec<u32>,
    /// Position of each row in its own sequence.
    pub positions: Vec<u32>,
    /// Which rows are queries of which keys.
    pub spans: Vec<Span>,
    /// With a KV cache: where each row's key and value go (block * 64 + offset).
    pub slots: Vec<u32>,
}

impl Packed {
    /// Number of packed tokens, N.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nothing is packed.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// Device copies of a batch's integers.
#[derive(Debug)]
pub(super) struct Indices {
    tokens: Tensor,
    positions: Tensor,
    slots: Tensor,
}

impl Indices {
    pub(super) fn new(tokens: usize, arena: &mut Arena) -> Result<Self, ArenaError> {
        let mut ids = || arena.tensor(DType::U32, dims![N: tokens]);
        Ok(Self { tokens: ids()?, positions: ids()?, slots: ids()? })
    }

    pub(super) fn upload(&mut self, batch: &Packed) -> Result<(), DeviceError> {
        let n = batch.len();
        for (tensor, values) in [
            (&mut self.tokens, &batch.tokens),
            (&mut self.positions, &batch.positions),
            (&mut self.slots, &batch.slots),
        ] {
            tensor.rows_mut(0..values.len().min(n)).write_ids(values)?;
        }
        Ok(())
    }

    pub(super) fn tokens(&self, n: usize) -> View<'_> {
        self.tokens.rows(0..n)
    }

    pub(super) fn positions(&self, n: usize) -> View<'_> {
        self.positions.rows(0..n)
    }

    pub(super) fn slots(&self, n: usize) -> View<'_> {
        self.slots.rows(0..n)
    }
}
