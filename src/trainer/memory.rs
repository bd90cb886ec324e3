use std::fmt;

use serde::{Deserialize, Serialize};

use super::run::carve;
use super::{Setup, TrainConfig, TrainError};
use crate::device::Stream;
use crate::tensor::{Arena, ArenaError};

const MIB: usize = 1 << 20;

/// How much memory a run may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Most MiB of weights, optimizer and phases together. Default 0: what the system gives.
    pub budget_mib: usize,
}

/// The memory of a run, all of it known before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of weights, gradients and optimizer.
    pub model: usize,
    /// Bytes of the larger of sampling and learning, which take turns.
    pub phase: usize,
    /// Leaves in memory at once.
    pub leaves: usize,
    /// Those that `rl.leaves` asks for.
    pub asked: usize,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes as f64 / MIB as f64;
        let (model, phase) = (mib(self.model), mib(self.phase));
        write!(
            f,
            "memory: {model:.1} MiB of weights, gradients and optimizer, {phase:.1} MiB to sample and learn in turn"
        )?;
        if self.leaves < self.asked {
            write!(
                f,
                "; micro-batches of {} leaves, as {} (rl.leaves) do not fit: slower, to the same bits",
                self.leaves, self.asked
            )?;
        }
        Ok(())
    }
}

impl Plan {
    fn of(config: &TrainConfig, setup: &Setup, stream: &Stream, asked: usize) -> Result<Self, ArenaError> {
        let mut planned = [Arena::planned("model"), Arena::planned("phase")];
        carve(config, setup, stream, &mut planned)?;
        let [model, phase] = planned.map(|arena| arena.peak());
        Ok(Self { model, phase, leaves: config.rl.leaves, asked })
    }

    fn arenas(&self, budget: &MemoryConfig, stream: &Stream) -> Result<[Arena; 2], ArenaError> {
        let (bytes, room) = (self.model + self.phase, budget.budget_mib.saturating_mul(MIB));
        if room > 0 && bytes > room {
            let reason = format!("memory.budget_mib allows {room}");
            return Err(ArenaError::Refused { arena: "run", bytes, reason });
        }
        let device = stream.device();
        Ok([Arena::sized("model", device, self.model)?, Arena::sized("phase", device, self.phase)?])
    }
}

/// Takes all memory that a run needs. Where there is too little, the micro-batch is halved, and again, down to one leaf: no
/// result depends on it.
///
/// # Errors
/// When there is too little even then.
pub(super) fn take(
    config: &mut TrainConfig,
    setup: &Setup,
    stream: &Stream,
) -> Result<([Arena; 2], Plan), TrainError> {
    let asked = config.rl.leaves.max(1);
    config.rl.leaves = asked;
    loop {
        let plan = Plan::of(config, setup, stream, asked)?;
        match plan.arenas(&config.memory, stream) {
            Ok(arenas) => return Ok((arenas, plan)),
            Err(_) if config.rl.leaves > 1 => config.rl.leaves /= 2,
            Err(source) => return Err(TrainError::TooLittleMemory { source }),
        }
    }
}
