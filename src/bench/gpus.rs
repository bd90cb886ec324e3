use std::process::Command;

use serde_json::{Map, Value};

use crate::device::Device;

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
pub(super) fn asked(device: &Device) -> Option<Vec<Map<String, Value>>> {
    let Device::Cuda(_) = device else { return None };
    let query = format!("--query-gpu={}", QUESTIONS.join(","));
    let output = Command::new("nvidia-smi").args([&query, "--format=csv,noheader,nounits"]).output().ok()?;
    output.status.success().then(|| rows(&String::from_utf8_lossy(&output.stdout)))
}

fn rows(text: &str) -> Vec<Map<String, Value>> {
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
