use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::exit::DEVICE;
use super::flags::device;
use super::output::{Output, say};
use crate::bench::{self, Effort, Finding, SelftestOptions, Verdict};
use crate::device::{Device, DeviceChoice};

/// Check that this machine computes what it should: every operator against f64, a whole model, equal bits.
///
/// Needs nothing but this program. Standard output is one JSON line a check. A wrong result ends with exit code 5, and names the
/// operator, the element, what came and what should have come.
#[derive(Debug, Args)]
pub(super) struct Selftest {
    /// Where to compute: cpu, cuda, cuda:N, or auto, which is the CPU for now.
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceChoice,
    /// Only checks whose operator or shape contains this text.
    #[arg(long, default_value = "", value_name = "TEXT")]
    filter: String,
    /// Host threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl Selftest {
    pub(super) fn run(self) -> Result<ExitCode> {
        let device = Device::open(self.device, self.threads)?;
        let effort = match device {
            Device::Host(_) => Effort::Small,
            Device::Cuda(_) => Effort::Full,
        };
        let options = SelftestOptions { filter: self.filter, effort };
        let mut out = Output::create(None)?;
        let mut written = Ok(());
        let mut watch = |finding: &Finding| {
            say(&line(finding));
            if written.is_ok() {
                written = out.line(finding).and_then(|()| out.flush());
            }
        };
        let findings = bench::selftest(&device, &options, &mut watch)?;
        written?;
        if findings.is_empty() {
            bail!("--filter {}: no check has a name that contains it", options.filter);
        }
        let failed: Vec<&Finding> = findings.iter().filter(|finding| finding.failed()).collect();
        if failed.is_empty() {
            say(&format!("{} checks, none failed", findings.len()));
            return Ok(ExitCode::SUCCESS);
        }
        say(&format!("{} of {} checks failed:", failed.len(), findings.len()));
        failed.iter().for_each(|finding| say(&line(finding)));
        Ok(ExitCode::from(DEVICE))
    }
}

fn line(finding: &Finding) -> String {
    let Finding { check, case, dtype, on, verdict } = finding;
    let on = on.map_or_else(String::new, |[major, minor]| format!(" on {major}.{minor}"));
    let said = match verdict {
        Verdict::Held { outputs } => {
            let each =
                outputs.iter().map(|(name, fit)| format!("{name} {:.2} of {:.2}", fit.worst, fit.allowed));
            format!("ok     {}", each.collect::<Vec<_>>().join(", "))
        }
        Verdict::Agreed { compared } => format!("ok     {compared} elements have the same bits"),
        Verdict::Near { distance, allowed } => format!("ok     {distance:.2e} of {allowed:.2e}"),
        Verdict::Fact { differ, of } => format!("fact   {differ} of {of} elements differ"),
        Verdict::NotRun { reason } => format!("not run: {reason}"),
        Verdict::Failed { output, message, .. } => format!("FAILED {output}: {message}"),
    };
    format!("{check:<24} {case:<28} {dtype:?}{on}: {said}")
}
