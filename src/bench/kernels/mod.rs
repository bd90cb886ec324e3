//! Every operator on the shapes of a model, each beside the limit that binds it, which the same run measures first.

mod attention;
mod beside;
mod case;
mod ceilings;
mod clock;
mod elementwise;
mod head;
mod products;
mod record;
mod shapes;
mod updates;

pub use beside::{Beside, Theirs};
pub use ceilings::{Ceilings, Matrix, Multiplier, Presence, Rate};
pub use clock::Spread;
pub use record::{Bound, CaseRecord, KernelsRecord, Measured, Outcome};
pub use shapes::KernelShapes;

use super::machine::{Machine, Program, load};
use super::{BenchError, Computer, computer};
use crate::device::{Device, Stream};
use beside::Peers;
use case::{Case, Traffic};

pub(super) use ceilings::matrix;
pub(super) use clock::{Clock, seconds};

/// How to measure.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Measured repeats of each case, at least 1.
    pub repeats: usize,
    /// Repeats before the first measured one.
    pub warm_up: usize,
    /// Only cases whose name contains this.
    pub filter: String,
    /// Bytes that are rewritten before each repeat: more than any cache holds.
    pub sweep: usize,
    /// Bytes over which the device's own bandwidth is measured.
    pub stream: usize,
    /// Side of the square matrices of which the device's own product is measured.
    pub side: usize,
    /// Commands of peers that answer to the names of cases (see `benches/reference/kernels.py`), run by `sh`.
    pub peers: Vec<String>,
}

impl KernelOptions {
    /// For a GPU: no cache of one has an eighth of a gigabyte (2026).
    pub fn gpu() -> Self {
        Self {
            repeats: 20,
            warm_up: 3,
            filter: String::new(),
            sweep: 512 << 20,
            stream: 4 << 30,
            side: 8192,
            peers: Vec::new(),
        }
    }

    /// For a CPU.
    pub fn cpu() -> Self {
        Self { repeats: 20, warm_up: 1, sweep: 64 << 20, stream: 256 << 20, ..Self::gpu() }
    }
}

/// Every kernel on `shapes` that `options` let by; `watch` hears the limits and then each case.
///
/// # Errors
/// When the device refuses; a case that its memory does not hold is recorded as not run.
pub fn kernels(
    device: &Device,
    shapes: &KernelShapes,
    options: &KernelOptions,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<KernelsRecord, BenchError> {
    let mut peers = Peers::start(&options.peers)?;
    let (before, load_before, stream) = (computer::asked(device), load(), Stream::new(device.clone()));
    let mut clock = Clock::new(&stream, options.sweep, (options.repeats, options.warm_up))?;
    let ceilings = Ceilings::measure(&mut clock, options, shapes.dtype)?;
    watch(Event::Ceilings(&ceilings));
    let mut cases = Vec::new();
    for case in all(shapes).into_iter().filter(|case| case.name.contains(&options.filter)) {
        let outcome = run(&case, &mut clock, (&ceilings, &mut peers))?;
        cases.push(CaseRecord { name: case.name, work: case.work, outcome, peers: peers.done() });
        watch(Event::Case(&cases[cases.len() - 1]));
    }
    Ok(KernelsRecord {
        what: "kernels",
        facts: record::facts(shapes, options),
        machine: Machine::here(super::run::threads(device)),
        device: Computer::after(device, before)?,
        program: Program::here(),
        load: load_before,
        ceilings,
        cases,
        load_after: load(),
    })
}

/// What a run tells as it goes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The limits are known.
    Ceilings(&'a Ceilings),
    /// A case is done.
    Case(&'a CaseRecord),
}

fn all(shapes: &KernelShapes) -> Vec<Case> {
    let groups = [
        products::cases(shapes),
        attention::cases(shapes),
        head::cases(shapes),
        elementwise::cases(shapes),
        updates::cases(shapes),
    ];
    groups.into_iter().flatten().collect()
}

fn run(
    case: &Case,
    clock: &mut Clock<'_>,
    (ceilings, peers): (&Ceilings, &mut Peers),
) -> Result<Outcome, BenchError> {
    let measured = case.ready(clock.stream).and_then(|repeat| {
        peers.prepare(&case.name);
        clock.interleaved(repeat, &mut |seconds| peers.follow(&case.name, seconds))
    });
    match measured {
        Ok(seconds) => Ok(Outcome::Measured(compared(case, seconds, ceilings))),
        Err(error) if error.is_memory() => {
            Ok(Outcome::NotRun { not_run: error.to_string(), bytes_needed: case.bytes(clock.stream)? })
        }
        Err(error) => Err(error),
    }
}

fn compared(case: &Case, seconds: Spread, ceilings: &Ceilings) -> Measured {
    let [bytes, flops] = [case.work.bytes, case.work.flops].map(|count| count as f64);
    let (moves, rate) = match case.traffic {
        Traffic::Reads => (Bound::Read, ceilings.read.rate),
        Traffic::Copies => (Bound::Copy, ceilings.copy.rate),
    };
    let (moving, multiplying) = (bytes / rate, flops / ceilings.matrix.rate);
    let (bound, least) = if multiplying > moving { (Bound::Matrix, multiplying) } else { (moves, moving) };
    Measured {
        seconds,
        gigabytes_per_second: bytes / seconds.median / 1e9,
        teraflops: flops / seconds.median / 1e12,
        bound,
        share: least / seconds.median,
    }
}
