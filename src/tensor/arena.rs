use super::{DType, Dims, Tensor};
use crate::device::{Device, DeviceError, Region};

/// Every tensor starts on its own cache line.
const ALIGN: usize = 64;

/// Why a tensor could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The plan's budget does not hold it.
    #[error("arena `{arena}`: {dims} of {dtype:?} needs {needed} bytes, {left} of {total} are left")]
    Full {
        /// Which arena.
        arena: &'static str,
        /// Of the tensor.
        dims: Dims,
        /// Of the tensor.
        dtype: DType,
        /// Bytes it needs.
        needed: usize,
        /// Bytes left.
        left: usize,
        /// Bytes of the whole arena.
        total: usize,
    },
    /// The system or the budget does not give so much memory.
    #[error("arena `{arena}`: {bytes} bytes are needed, {reason}")]
    Refused {
        /// Which arena.
        arena: &'static str,
        /// Bytes it needs.
        bytes: usize,
        /// Who does not give them.
        reason: String,
    },
    /// The device refused what was to be written into it.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// One allocation that tensors are carved from. A planned arena has no memory: running the program's own constructors over
/// one counts exactly the bytes that the real run will need.
#[derive(Debug)]
pub struct Arena {
    name: &'static str,
    rest: Region,
    total: usize,
    planned: bool,
    peak: usize,
}

impl Arena {
    /// An arena of `bytes` on `device`, which surely has them.
    pub fn new(name: &'static str, device: &Device, bytes: usize) -> Self {
        Self::sized(name, device, bytes).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, of a size that a system may not have.
    ///
    /// # Errors
    /// `Refused`, where it does not.
    pub fn sized(name: &'static str, device: &Device, bytes: usize) -> Result<Self, ArenaError> {
        let reason = || "and the system does not give them".into();
        let refused = || ArenaError::Refused { arena: name, bytes, reason: reason() };
        let rest = match device {
            Device::Host(_) => Region::try_host(bytes).ok_or_else(refused)?,
            Device::Cuda(cuda) => Region::on(cuda, bytes)?,
        };
        Ok(Self { name, rest, total: bytes, planned: false, peak: 0 })
    }

    /// An arena that only counts.
    pub fn planned(name: &'static str) -> Self {
        let total = usize::MAX / 2;
        Self { name, rest: Region::planned(total), total, planned: true, peak: 0 }
    }

    /// Carves a tensor off; its contents are what an earlier phase left (zero at first).
    ///
    /// # Errors
    /// When it does not fit.
    pub fn tensor(&mut self, dtype: DType, dims: Dims) -> Result<Tensor, ArenaError> {
        let needed = (dims.count() * dtype.size()).next_multiple_of(ALIGN);
        let left = self.rest.len();
        let region = self.rest.split_off_front(needed).ok_or(ArenaError::Full {
            arena: self.name,
            dims,
            dtype,
            needed,
            left,
            total: self.total,
        })?;
        self.peak = self.peak.max(self.used());
        Ok(Tensor::new(region, dtype, dims))
    }

    /// Ends a phase: every tensor carved so far must be gone, and the memory serves the next phase.
    pub fn reset(&mut self) {
        assert!(self.rest.reclaim(self.total), "arena `{}` reset while its tensors live", self.name);
    }

    /// Bytes carved off now.
    pub fn used(&self) -> usize {
        self.total - self.rest.len()
    }

    /// Most bytes ever carved off at once: what [`Arena::new`] must be given.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Whether this arena only counts.
    pub fn is_planned(&self) -> bool {
        self.planned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::dims;

    fn fill(arena: &mut Arena) -> Result<Vec<Tensor>, ArenaError> {
        [dims![N: 3, C: 5], dims![V: 100]].into_iter().map(|d| arena.tensor(DType::F32, d)).collect()
    }

    #[test]
    fn a_plan_counts_what_the_real_arena_needs() {
        let mut plan = Arena::planned("test");
        fill(&mut plan).expect("a plan is never full");
        let device = Device::open(DeviceChoice::Cpu, 1).expect("a CPU");
        let mut exact = Arena::new("test", &device, plan.peak());
        assert!(fill(&mut exact).is_ok());
        let mut short = Arena::new("test", &device, plan.peak() - 1);
        assert!(fill(&mut short).is_err());
    }

    #[test]
    fn a_phase_reuses_the_memory_of_the_one_before() {
        let device = Device::open(DeviceChoice::Cpu, 1).expect("a CPU");
        let mut arena = Arena::new("test", &device, 1024);
        for _ in 0..3 {
            drop(fill(&mut arena).expect("fits"));
            arena.reset();
        }
    }

    #[test]
    #[should_panic(expected = "while its tensors live")]
    fn a_phase_cannot_end_while_its_tensors_live() {
        let device = Device::open(DeviceChoice::Cpu, 1).expect("a CPU");
        let mut arena = Arena::new("test", &device, 1024);
        let _held = fill(&mut arena);
        arena.reset();
    }
}
