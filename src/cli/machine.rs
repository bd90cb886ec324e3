use std::time::{SystemTime, UNIX_EPOCH};

use crate::report::Fact;

/// Seconds since 1970-01-01 UTC.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// The machine's name.
pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".into(), |name| name.trim().to_owned())
}

/// Where a run comes from: commit, binary, data, machine, load.
pub(super) fn provenance(data_hash: &str, threads: usize) -> Vec<Fact> {
    let hash = |bytes: Vec<u8>| blake3::hash(&bytes).to_hex()[..16].to_owned();
    let binary = std::env::current_exe().and_then(std::fs::read).map_or_else(|_| "unknown".into(), hash);
    vec![
        Fact::new("commit", env!("PATARM_COMMIT")),
        Fact::new("binary", binary),
        Fact::new("data", &data_hash[..data_hash.len().min(16)]),
        Fact::new("machine", format!("{}, {threads} threads", processor())),
        Fact::new("host", host()),
        Fact::new("load at the start", format!("{:.2}", load())),
        Fact::new("started", format!("{:.0} seconds after 1970-01-01 UTC", now())),
    ]
}

/// The processor's own name.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown processor".into(), |(_, name)| name.to_owned())
}

/// One-minute load average.
pub(super) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}
