use patarm::bench::{self, Effort, Finding, SelftestOptions, Verdict};
use patarm::device::{
    Address, Cuda, Device, DeviceError, Driver, DriverError, EncodedMap, Grid, Kernel, TensorMap,
};
use patarm::tensor::DType;

use crate::on_cpu::{SCHEDULES, stream_of};
use crate::{device, emulated};

fn findings(device: &Device, filter: &str) -> Vec<Finding> {
    let options = SelftestOptions { filter: filter.into(), effort: Effort::Small };
    let mut heard = 0;
    let found = bench::selftest(device, &options, &mut |_| heard += 1).expect("a device that works");
    assert_eq!(heard, found.len());
    found
}

fn failed(found: &[Finding]) -> Vec<&Finding> {
    found.iter().filter(|finding| finding.failed()).collect()
}

/// Operators that the method needs, each of which has a check.
const OPERATORS: [&str; 24] = [
    "adamw_step",
    "attention_backward",
    "attention_decode",
    "attention_forward",
    "bias_backward",
    "bias_forward",
    "embedding_backward",
    "embedding_forward",
    "grad_norm",
    "head_gradient",
    "head_logits",
    "head_token_logprob",
    "kv_append",
    "product_backward_input",
    "product_backward_weight",
    "product_forward",
    "rms_norm_backward",
    "rms_norm_forward",
    "rope_backward",
    "rope_forward",
    "rows_gather",
    "rows_scatter",
    "sample",
    "scale",
];

#[test]
fn a_cpu_that_works_fails_no_check() {
    let found = findings(&device(), "");
    assert_eq!(failed(&found).len(), 0, "{:#?}", failed(&found));
    for dtype in [DType::F32, DType::BF16] {
        for operator in OPERATORS {
            let of = |finding: &&Finding| finding.check == operator && finding.dtype == dtype;
            assert!(found.iter().any(|finding| of(&finding)), "{operator} in {dtype:?}");
        }
    }
    assert!(found.iter().any(|finding| finding.check == "whole_model"));
    assert_eq!(found.iter().filter(|finding| finding.check == "product_rows").count(), 2);
}

#[test]
fn an_emulated_device_that_works_fails_no_check() {
    let found = findings(&emulated(), "");
    assert_eq!(failed(&found).len(), 0, "{:#?}", failed(&found));
    assert!(OPERATORS.iter().all(|operator| found.iter().any(|finding| finding.check == *operator)));
    let exchanged = found.iter().filter(|finding| finding.check == "exchanged_operands");
    assert!(exchanged.clone().count() == 1, "one kind of core, one fact");
    assert!(exchanged.clone().all(|finding| matches!(finding.verdict, Verdict::Fact { .. })));
}

#[test]
fn both_cores_of_a_newer_device_are_checked() {
    let device = stream_of(SCHEDULES[1], [9, 0]).device().clone();
    let found = findings(&device, "product_forward");
    assert_eq!(failed(&found).len(), 0, "{:#?}", failed(&found));
    let on = |capability| found.iter().filter(|finding| finding.on == Some(capability)).count();
    assert!(on([9, 0]) > 0 && on([9, 0]) == on([8, 0]), "{} {}", on([9, 0]), on([8, 0]));
}

#[test]
fn a_filter_takes_the_checks_whose_names_contain_it() {
    let found = findings(&device(), "swiglu");
    assert!(!found.is_empty() && found.iter().all(|finding| finding.check.starts_with("swiglu")));
    assert!(findings(&device(), "no such check").is_empty());
    let line = serde_json::to_value(&found[0]).expect("a finding is JSON");
    assert_eq!((&line["check"], &line["verdict"]), (&"swiglu_forward".into(), &"held".into()));
    assert!(line["outputs"]["out"]["worst"].as_f64() <= line["outputs"]["out"]["allowed"].as_f64());
}

/// A device that is asked to multiply by a constant and does nothing.
#[derive(Debug)]
struct Idle(Cuda);

impl Driver for Idle {
    fn name(&self) -> String {
        self.0.driver().name()
    }

    fn multiprocessors(&self) -> u32 {
        self.0.driver().multiprocessors()
    }

    fn memory(&self) -> Result<[u64; 2], DriverError> {
        self.0.driver().memory()
    }

    fn allocate(&self, bytes: usize) -> Result<Option<Address>, DriverError> {
        self.0.driver().allocate(bytes)
    }

    fn free(&self, at: Address) {
        self.0.driver().free(at);
    }

    fn upload(&self, from: &[u8], to: Address) -> Result<(), DriverError> {
        self.0.driver().upload(from, to)
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<(), DriverError> {
        self.0.driver().download(from, to)
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        self.0.driver().copy(from, to, bytes)
    }

    fn zero(&self, at: Address, bytes: usize) -> Result<(), DriverError> {
        self.0.driver().zero(at, bytes)
    }

    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[&[u8]]) -> Result<(), DriverError> {
        if kernel.stem == "scale" { Ok(()) } else { self.0.driver().launch(kernel, grid, arguments) }
    }

    fn tensor_map(&self, map: &TensorMap<'_>) -> Result<EncodedMap, DriverError> {
        self.0.driver().tensor_map(map)
    }

    fn sync(&self) -> Result<(), DriverError> {
        self.0.driver().sync()
    }

    fn seconds(&self, work: &mut dyn FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
        self.0.driver().seconds(work)
    }
}

#[test]
fn a_device_that_computes_wrongly_fails_and_the_element_is_named() {
    let Device::Cuda(cuda) = emulated() else { panic!("a CUDA device") };
    let idle = Device::Cuda(Cuda::over(Idle(cuda)));
    let found = findings(&idle, "scale");
    assert!(!found.is_empty() && found.iter().all(Finding::failed));
    let Verdict::Failed { output, index, got, expected, message } = &found[0].verdict else {
        panic!("failed")
    };
    assert_eq!((*output, *index), ("x", Some(0)));
    let (got, expected) = (got.expect("a number"), expected.expect("a number"));
    assert!((expected - got * 5.0 / 3.0).abs() < 1e-6, "{message}");
    assert!(message.starts_with("element 0: "), "{message}");
    assert!(findings(&idle, "rows_gather").iter().all(|finding| !finding.failed()));
}
