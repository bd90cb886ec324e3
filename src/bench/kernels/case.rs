use crate::bench::BenchError;
use crate::device::Stream;
use crate::ops::{OpError, Work, bandwidth};
use crate::tensor::{Arena, DType, Dims, Tensor};

/// One operator on one shape.
pub(super) struct Case {
    /// `operator/what`: what a filter looks for.
    pub(super) name: String,
    /// What it must do at least.
    pub(super) work: Work,
    /// Which bandwidth bounds it.
    pub(super) traffic: Traffic,
    /// Its operands, and a repeat on them.
    pub(super) build: Build,
}

/// Whether what an operator moves is mostly read, or written as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Weights, caches, logits: the limit is that of reading.
    Reads,
    /// About as much is written: the limit is that of copying.
    Copies,
}

/// Carves the operands and gives what one repeat does with them.
pub(super) type Build = Box<dyn Fn(&mut Room<'_>) -> Result<Repeat, BenchError>>;

/// One call of the operator.
pub(super) type Repeat = Box<dyn FnMut(&Stream) -> Result<(), OpError>>;

impl Case {
    /// A case named `operator/what`.
    pub(super) fn new(
        name: String,
        (work, traffic): (Work, Traffic),
        build: impl Fn(&mut Room<'_>) -> Result<Repeat, BenchError> + 'static,
    ) -> Self {
        Self { name, work, traffic, build: Box::new(build) }
    }

    /// Bytes of its operands.
    pub(super) fn bytes(&self, stream: &Stream) -> Result<usize, BenchError> {
        let mut room = Room::over(Arena::planned("kernels"), stream);
        let _ = (self.build)(&mut room)?;
        Ok(room.arena.peak())
    }

    /// One repeat on operands of its own.
    pub(super) fn ready(&self, stream: &Stream) -> Result<Repeat, BenchError> {
        let arena = Arena::sized("kernels", stream.device(), self.bytes(stream)?)?;
        (self.build)(&mut Room::over(arena, stream))
    }
}

/// Where a case's operands come from.
pub(super) struct Room<'a> {
    /// For what is no plain tensor.
    pub(super) arena: Arena,
    stream: &'a Stream,
    seed: u32,
}

impl<'a> Room<'a> {
    pub(super) fn over(arena: Arena, stream: &'a Stream) -> Self {
        Self { arena, stream, seed: 0 }
    }

    /// Zeros.
    pub(super) fn zeros(&mut self, dtype: DType, dims: Dims) -> Result<Tensor, BenchError> {
        Ok(self.arena.tensor(dtype, dims)?)
    }

    /// Numbers spread evenly over -1..1: zeros would be multiplied faster than anything real.
    pub(super) fn numbers(&mut self, dtype: DType, dims: Dims) -> Result<Tensor, BenchError> {
        let mut tensor = self.zeros(dtype, dims)?;
        self.seed += 1;
        if self.arena.is_planned() {
            return Ok(tensor);
        }
        if tensor.bytes().is_multiple_of(16) {
            bandwidth::fill(self.stream, tensor.view_mut(), self.seed)?;
        } else {
            let numbers = (0..dims.count()).map(|i| (i * 37 % 251) as f64 / 125.0 - 1.0);
            tensor.view_mut().write_f64(numbers)?;
        }
        Ok(tensor)
    }

    /// These ids.
    pub(super) fn ids(&mut self, ids: &[u32], dims: Dims) -> Result<Tensor, BenchError> {
        let mut tensor = self.zeros(DType::U32, dims)?;
        if !self.arena.is_planned() {
            tensor.view_mut().write_ids(ids)?;
        }
        Ok(tensor)
    }
}
