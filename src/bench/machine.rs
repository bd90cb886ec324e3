use std::fs;
use std::process::Command;

use serde::Serialize;

/// Where a record was made.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The CPU's own name.
    pub cpu: String,
    /// Logical CPUs.
    pub cpus: usize,
    /// Clock of each logical CPU, MHz, as the kernel reports it.
    pub mhz: Vec<f64>,
    /// Kernel.
    pub kernel: String,
    /// Threads the program used.
    pub threads: usize,
}

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// Commit the binary was built from.
    pub commit: String,
    /// Whether the working tree differs from that commit; none: no repository is near.
    pub dirty: Option<bool>,
    /// BLAKE3 hash of the binary.
    pub binary: Option<String>,
}

impl Machine {
    /// This one.
    pub fn here(threads: usize) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let values = |key: &'static str| {
            info.lines().filter(move |line| line.starts_with(key)).filter_map(|line| line.split(": ").nth(1))
        };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: values("model name").next().unwrap_or("unknown").to_owned(),
            cpus: values("model name").count(),
            mhz: values("cpu MHz").filter_map(|text| text.parse().ok()).collect(),
            kernel: kernel.trim().to_owned(),
            threads,
        }
    }
}

impl Program {
    /// This one.
    pub fn here() -> Self {
        let commit = env!("PATARM_COMMIT").to_owned();
        let head = git(&["rev-parse", "HEAD"]);
        let changes = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!benches/results"]);
        let dirty = head.zip(changes).map(|(head, changes)| head != commit || !changes.is_empty());
        let binary = std::env::current_exe().and_then(fs::read).ok();
        Self { commit, dirty, binary: binary.map(|bytes| blake3::hash(&bytes).to_hex().to_string()) }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Load average of the last minute.
pub(super) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// Most memory this process ever held, bytes.
pub(super) fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_or(0, |kilobytes: u64| kilobytes * 1024)
}
