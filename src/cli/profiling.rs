use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;

use super::output::say;
use crate::device::{self, Device, Profile};

/// Where a profiler's library stands that takes ranges: NVTX's own name for it.
const LISTENER: &str = "NVTX_INJECTION64_PATH";

/// Lets the profiler that this program was started under hear of phases and layers.
pub(super) fn tell() -> Result<()> {
    match std::env::var_os(LISTENER) {
        Some(library) => Ok(device::tell_profiler(Path::new(&library))?),
        None => {
            say(&format!(
                "--nvtx: no profiler listens ({LISTENER} is not set); the run goes on without ranges"
            ));
            Ok(())
        }
    }
}

/// What a profiler that waits for it collects of a run.
#[derive(Debug, Args)]
pub(super) struct Profiling {
    /// Steps, as metrics number them, between which a profiler collects: `3` or `3-5`, both included. For
    /// `nsys profile --capture-range cudaProfilerApi` and `ncu --profile-from-start off`.
    #[arg(long, value_name = "FIRST-LAST")]
    profile_steps: Option<Steps>,
}

/// Numbers of steps, the last included.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Steps(RangeInclusive<u64>);

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u64>().ok().filter(|&number| number > 0);
        match number(first).zip(number(last)) {
            Some((first, last)) if first <= last => Ok(Self(first..=last)),
            _ => Err("expected a step or FIRST-LAST, counted from 1".into()),
        }
    }
}

impl Profiling {
    /// The window on this device.
    pub(super) fn on(&self, device: &Device) -> Result<Option<Window>> {
        match (&self.profile_steps, device) {
            (None, _) => Ok(None),
            (Some(_), Device::Host(_)) => {
                bail!("--profile-steps needs --device cuda: the CPU has nothing to collect")
            }
            (Some(Steps(steps)), Device::Cuda(_)) => {
                Ok(Some(Window { steps: steps.clone(), device: device.clone() }))
            }
        }
    }
}

/// Steps that a profiler collects on a device.
#[derive(Debug)]
pub(super) struct Window {
    steps: RangeInclusive<u64>,
    device: Device,
}

impl Window {
    /// Step `number` begins.
    pub(super) fn begins(&self, number: u64) {
        if number == *self.steps.start() {
            self.mark(Profile::Start);
        }
    }

    /// Step `number` is done.
    pub(super) fn ends(&self, number: u64) {
        if number == *self.steps.end() {
            self.mark(Profile::Stop);
        }
    }

    /// At a border all work of before is done. What fails costs the profile, not the run.
    fn mark(&self, border: Profile) {
        let Device::Cuda(cuda) = &self.device else { return };
        let marked = cuda.driver().sync().and_then(|()| cuda.driver().profile(border));
        if let Err(error) = marked {
            say(&format!("--profile-steps: {error}: the run goes on"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_one_or_a_first_and_a_last() {
        assert_eq!("7".parse(), Ok(Steps(7..=7)));
        assert_eq!("3-5".parse(), Ok(Steps(3..=5)));
        for wrong in ["", "0", "5-3", "1-", "a", "1..2"] {
            assert!(wrong.parse::<Steps>().is_err(), "{wrong}");
        }
    }
}
