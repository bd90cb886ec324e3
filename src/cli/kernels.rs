use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::bench::read;
use super::flags::device;
use super::output::say;
use crate::bench::{
    self, Beside, Bound, CaseRecord, Ceilings, Event, KernelOptions, KernelShapes, KernelsRecord, Middle,
    Multiplier, Outcome, Theirs,
};
use crate::device::{Device, DeviceChoice};
use crate::qwen3::Config;

/// Shapes that are measured when none is named: a GPU's, a CPU's.
const SHAPES: [&str; 2] =
    [include_str!("../../models/qwen3-8b/config.json"), include_str!("../../models/qwen3-0.6b/config.json")];

/// Every operator on a model's shapes, each as a share of the limit that binds it.
///
/// First the device's own limits: reading and copying memory, NVIDIA's product of 8192 x 8192 bf16 matrices where its library is
/// found at run time (libcublasLt.so.13; LD_LIBRARY_PATH counts), the time of an empty launch. A case whose operands do not fit
/// is listed as not run, with the bytes that it needs.
#[derive(Debug, Args)]
pub(super) struct Kernels {
    /// Only cases whose name contains this text, such as attention or product_forward/o.
    #[arg(long, default_value = "", value_name = "TEXT")]
    filter: String,
    /// Where to compute: cpu, cuda, cuda:N, or auto, which is the CPU for now.
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceChoice,
    /// Folder with a config.json; its weights are not read. Without it: Qwen3-8B's on a GPU, Qwen3-0.6B's on a CPU.
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Measured repeats of each case.
    #[arg(long, default_value_t = 20)]
    repeats: usize,
    /// Host threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Command of a peer that does the cases it is told the names of, as benches/reference/kernels.py does; may be given more
    /// than once. Each of its repeats follows one of ours.
    #[arg(long, value_name = "COMMAND")]
    peer: Vec<String>,
}

impl Kernels {
    pub(super) fn run(self) -> Result<KernelsRecord> {
        let device = Device::open(self.device, self.threads)?;
        let on_gpu = matches!(device, Device::Cuda(_));
        let text = match &self.config {
            Some(folder) => read(folder)?,
            None => SHAPES[usize::from(!on_gpu)].to_owned(),
        };
        let config = Config::parse(&text)?;
        let (shapes, options) = if on_gpu {
            (KernelShapes::gpu(config), KernelOptions::gpu())
        } else {
            (KernelShapes::cpu(config), KernelOptions::cpu())
        };
        let options =
            KernelOptions { repeats: self.repeats, filter: self.filter, peers: self.peer, ..options };
        let record = device.clone().enter(|| bench::kernels(&device, &shapes, &options, &mut watch))?;
        if record.cases.is_empty() {
            bail!("--filter {}: no case has a name that contains it", options.filter);
        }
        Ok(record)
    }
}

fn watch(event: Event<'_>) {
    match event {
        Event::Ceilings(ceilings) => limits(ceilings),
        Event::Case(case) => {
            say(&line(case));
            case.peers.iter().for_each(|peer| say(&beside(peer)));
        }
    }
}

fn limits(ceilings: &Ceilings) {
    let Ceilings { read, copy, matrix, launch } = ceilings;
    let by = match matrix.by {
        Multiplier::CublasLt => format!("cuBLASLt, {0} x {0} bf16", matrix.side),
        Multiplier::OwnProduct => {
            format!(
                "our own product, {0} x {0} bf16: libcublasLt is absent, shares are not of the device's peak",
                matrix.side
            )
        }
        Multiplier::Registers => "multiply-adds in registers".into(),
    };
    say(&format!("read   {:>9.1} GB/s", read.rate / 1e9));
    say(&format!("copy   {:>9.1} GB/s", copy.rate / 1e9));
    say(&format!("matrix {:>9.2} TFLOP/s ({by})", matrix.rate / 1e12));
    say(&format!("launch {:>9.2} us", launch.median * 1e6));
    say(&format!(
        "{:>12} {:>9} {:>9} {:>9}  {:<6} {:>5}",
        "us", "p90 us", "GB/s", "TFLOP/s", "bound", "share"
    ));
}

fn line(case: &CaseRecord) -> String {
    match &case.outcome {
        Outcome::Measured(m) => {
            let bound = match m.bound {
                Bound::Read => "read",
                Bound::Copy => "copy",
                Bound::Matrix => "matrix",
            };
            format!(
                "{:>12.1} {:>9.1} {:>9.1} {:>9.2}  {bound:<6} {:>5.2}  {}",
                m.seconds.median * 1e6,
                m.seconds.p90 * 1e6,
                m.gigabytes_per_second,
                m.teraflops,
                m.share,
                case.name
            )
        }
        Outcome::NotRun { bytes_needed, .. } => {
            format!(
                "{:>12} {:>9.2} GiB needed: {}",
                "not run",
                *bytes_needed as f64 / f64::from(1 << 30),
                case.name
            )
        }
    }
}

/// How a peer's seconds stand to ours.
fn beside(peer: &Beside) -> String {
    match &peer.theirs {
        Theirs::Measured { seconds, ratio, .. } => {
            let (us, Middle { median, low, high, .. }) = (seconds.median * 1e6, ratio);
            format!("{us:>12.1} {median:>9.2} x ours ({low:.2} to {high:.2})  {}", peer.command)
        }
        Theirs::Absent { absent } => format!("{:>12} {absent}: {}", "absent", peer.command),
    }
}
