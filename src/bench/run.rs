use serde_json::{Map, Value};

use super::machine::{Machine, Program, load, peak_bytes};
use super::peer::Peer;
use super::{BenchError, Computer, Limits, Middle, PeerRecord, Record, Repeat, computer};
use crate::device::Device;
use crate::tensor::{DType, View};

/// Something that can be measured again and again.
pub trait Workload {
    /// Its name.
    fn what(&self) -> &'static str;
    /// Shape and settings.
    fn facts(&self) -> Map<String, Value>;
    /// Where it runs.
    fn device(&self) -> &Device;
    /// How weights are stored.
    fn dtype(&self) -> DType;
    /// The weights that one step multiplies with.
    fn weights(&self) -> Vec<View<'_>>;
    /// Floating-point operations that one repeat must do, recomputation not counted.
    fn flops(&self) -> f64;
    /// How often one repeat must read the weights at least.
    fn reads(&self) -> f64;
    /// One repeat: seconds, tokens, and anything else worth keeping.
    ///
    /// # Errors
    /// When an operator refuses or the result is wrong.
    fn repeat(&mut self) -> Result<(f64, usize, Map<String, Value>), BenchError>;
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Measured repeats of each side, at least 1. A comparison takes 5.
    pub repeats: usize,
    /// Repeats before the first measured one.
    pub warm_up: usize,
    /// Side of the square matrices of which a GPU's own limit is measured.
    pub side: usize,
    /// Commands of the peers (see `benches/reference`), run by `sh` in the working directory.
    pub peers: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { repeats: 5, warm_up: 1, side: 8192, peers: Vec::new() }
    }
}

/// Measures a workload, each repeat followed by one of every peer, so that all sides see the same machine.
///
/// # Errors
/// When the workload or a peer fails.
pub fn run(
    workload: &mut dyn Workload,
    options: &Options,
    watch: &mut dyn FnMut(&str, &Repeat),
) -> Result<Record, BenchError> {
    let before = computer::asked(workload.device());
    let mut peers = options.peers.iter().map(|c| Peer::start(c)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..options.warm_up {
        workload.repeat()?;
    }
    let mut ours = Vec::new();
    let mut theirs = vec![Vec::new(); peers.len()];
    for _ in 0..options.repeats.max(1) {
        ours.push(measure(workload, options.side)?);
        watch("patarm", &ours[ours.len() - 1]);
        for ((peer, command), repeats) in peers.iter_mut().zip(&options.peers).zip(&mut theirs) {
            repeats.push(peer.repeat()?);
            watch(command, &repeats[repeats.len() - 1]);
        }
    }
    let memory = peak_bytes();
    let peers = peers.iter().zip(&options.peers).zip(theirs);
    let peers = peers.map(|((peer, command), repeats)| compare(peer, command, (&ours, memory), repeats));
    Ok(Record {
        what: workload.what(),
        facts: workload.facts(),
        machine: Machine::here(threads(workload.device())),
        device: Computer::after(workload.device(), before)?,
        program: Program::here(),
        tokens_per_second: Middle::of(ours.iter().map(Repeat::speed)),
        of_flops: Middle::of(ours.iter().filter_map(|r| r.of_flops)),
        of_read: Middle::of(ours.iter().filter_map(|r| r.of_read)),
        peak_bytes: memory,
        peers: peers.collect(),
        repeats: ours,
    })
}

/// Threads of the host that compute.
pub(super) fn threads(device: &Device) -> usize {
    match device {
        Device::Host(host) => host.threads(),
        Device::Cuda(_) => 1,
    }
}

/// One repeat of ours, with the machine's limits just before.
fn measure(workload: &mut dyn Workload, side: usize) -> Result<Repeat, BenchError> {
    let load = load();
    let weights = workload.weights();
    let bytes: usize = weights.iter().map(|weight| weight.bytes()).sum();
    let limits = Limits::measure(workload.device(), workload.dtype(), (&weights, side))?;
    let (seconds, tokens, more) = workload.repeat()?;
    let of_flops = Some(workload.flops() / seconds / limits.flops);
    let of_read = Some(workload.reads() * bytes as f64 / seconds / limits.read);
    Ok(Repeat { seconds, tokens, load, limits: Some(limits), of_flops, of_read, more })
}

fn compare(peer: &Peer, command: &str, (ours, memory): (&[Repeat], u64), repeats: Vec<Repeat>) -> PeerRecord {
    PeerRecord {
        command: command.to_owned(),
        ready: peer.ready.clone(),
        tokens_per_second: Middle::of(repeats.iter().map(Repeat::speed)),
        ratio: Middle::of(ours.iter().zip(&repeats).map(|(a, b)| a.speed() / b.speed())),
        memory_ratio: (peer.peak_bytes > 0 && memory > 0).then(|| peer.peak_bytes as f64 / memory as f64),
        repeats,
    }
}
