use std::process::Command;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::device::{Device, DeviceError};

/// The device that computed.
#[derive(Clone, Debug, Serialize)]
pub struct Computer {
    /// Its name; `cpu` for the host.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: Option<[u32; 2]>,
    /// Streaming multiprocessors.
    pub multiprocessors: Option<u32>,
    /// Memory in all, bytes.
    pub memory: Option<u64>,
    /// Memory in use when it was asked after the work, whoever uses it, bytes.
    pub used: Option<u64>,
    /// What `nvidia-smi` says of every GPU before: driver, clocks (MHz), temperature (Celsius), power (W). None where there is no
    /// such program.
    pub before: Option<Vec<Answers>>,
    /// The same after.
    pub after: Option<Vec<Answers>>,
}

/// What a GPU's own program says of it, by question.
pub type Answers = Map<String, Value>;

impl Computer {
    /// `device` after the work, of which [`asked`] said `before`.
    pub(super) fn after(device: &Device, before: Option<Vec<Answers>>) -> Result<Self, DeviceError> {
        let Device::Cuda(cuda) = device else {
            let (name, after) = ("cpu".to_owned(), None);
            let (capability, multiprocessors, memory, used) = (None, None, None, None);
            return Ok(Self { name, capability, multiprocessors, memory, used, before, after });
        };
        let [free, all] = cuda.driver().memory()?;
        Ok(Self {
            name: cuda.driver().name(),
            capability: Some(cuda.capability()),
            multiprocessors: Some(cuda.driver().multiprocessors()),
            memory: Some(all),
            used: Some(all - free),
            before,
            after: asked(device),
        })
    }
}

/// What is asked of each GPU. Clocks in MHz, temperature in Celsius, power in W, memory in MiB.
const QUESTIONS: [&str; 12] = [
    "index",
    "name",
    "driver_version",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks_event_reasons.active",
    "temperature.gpu",
    "power.draw",
    "power.limit",
    "memory.used",
    "memory.total",
];

/// What `nvidia-smi` says of every GPU, where one computes and there is that program.
pub(super) fn asked(device: &Device) -> Option<Vec<Answers>> {
    let Device::Cuda(_) = device else { return None };
    let query = format!("--query-gpu={}", QUESTIONS.join(","));
    let output = Command::new("nvidia-smi").args([&query, "--format=csv,noheader,nounits"]).output().ok()?;
    output.status.success().then(|| rows(&String::from_utf8_lossy(&output.stdout)))
}

fn rows(text: &str) -> Vec<Answers> {
    let answer = |text: &str| text.parse::<f64>().map_or_else(|_| Value::from(text), Value::from);
    let row = |line: &str| {
        let answers = line.split(", ").map(|text| answer(text.trim()));
        QUESTIONS.iter().map(|question| (*question).to_owned()).zip(answers).collect()
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_answers_every_question_in_order() {
        let text = "0, NVIDIA H200, 580.159.03, 1980, 3201, 1980, 0x0000000000000000, 31, 76.52, 700.00, 1, 143771\n";
        let rows = rows(text);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["name"], "NVIDIA H200");
        assert_eq!(rows[0]["clocks.sm"], 1980.0);
        assert_eq!(rows[0]["power.draw"], 76.52);
        assert_eq!(rows[0]["driver_version"], "580.159.03");
        assert_eq!(rows[0].len(), QUESTIONS.len());
    }
}
