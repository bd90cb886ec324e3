use patarm::bench::{
    self, Bound, CaseRecord, Event, KernelOptions, KernelShapes, KernelsRecord, Measured, Multiplier,
    Outcome, Presence,
};
use patarm::device::Device;
use patarm::tensor::DType;
use serde_json::Value;

use crate::{config, device, emulated};

/// Kinds of shapes, each with its number of cases: of a product in 4 places, of attention, of the head, of drawing.
fn shapes() -> KernelShapes {
    KernelShapes {
        config: config(),
        dtype: DType::BF16,
        products: vec![1, 17],
        backward: vec![17],
        attention: vec![70],
        decode: vec![[2, 70]],
        head: vec![20],
        tile: 16,
        drawn: vec![1, 3],
        tokens: 24,
        parameters: 3000,
    }
}

fn options() -> KernelOptions {
    let filter = String::new();
    KernelOptions {
        repeats: 3,
        warm_up: 1,
        filter,
        sweep: 4096,
        stream: 1 << 17,
        side: 64,
        peers: Vec::new(),
    }
}

fn measured(device: &Device, options: &KernelOptions) -> KernelsRecord {
    let mut heard = 0;
    let watch = &mut |event: Event<'_>| heard += usize::from(matches!(event, Event::Case(_)));
    let record = bench::kernels(device, &shapes(), options, watch).expect("a record");
    assert_eq!(heard, record.cases.len());
    record
}

fn of(case: &CaseRecord) -> &Measured {
    match &case.outcome {
        Outcome::Measured(measured) => measured,
        Outcome::NotRun { not_run, .. } => panic!("{}: {not_run}", case.name),
    }
}

/// A record of every kernel says of each case what its shape, its time and the limits say.
fn hold(record: &KernelsRecord) {
    // Products: 4 x 2 forward, 4 x 2 backward; attention: two directions, decoding, appending; three of the head's targets, four
    // for each number of drawn rows; 12 element by element; 6 of the optimizer.
    assert_eq!(record.cases.len(), 16 + 4 + 3 + 8 + 12 + 6);
    assert_eq!(record.not_run().count(), 0);
    for case in &record.cases {
        let Measured { seconds, gigabytes_per_second, teraflops, bound, share } = *of(case);
        assert_eq!(seconds.repeats, 3, "{}", case.name);
        assert!(0.0 < seconds.p10 && seconds.p10 <= seconds.median && seconds.median <= seconds.p90);
        let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b.abs(), "{}: {a} {b}", case.name);
        close(gigabytes_per_second * seconds.median * 1e9, case.work.bytes as f64);
        close(teraflops * seconds.median * 1e12, case.work.flops as f64);
        let multiplying = case.work.flops as f64 / record.ceilings.matrix.rate;
        let rates = [record.ceilings.read.rate, record.ceilings.copy.rate];
        let moving = rates.map(|rate| case.work.bytes as f64 / rate);
        let binds = match bound {
            Bound::Read => moving[0],
            Bound::Copy => moving[1],
            Bound::Matrix => multiplying,
        };
        assert!(binds >= multiplying, "{}", case.name);
        close(share * seconds.median, binds);
    }
}

#[test]
fn every_kernel_is_measured_beside_the_limits_of_a_cpu() {
    let record = measured(&device(), &options());
    hold(&record);
    assert_eq!(record.device.name, "cpu");
    assert_eq!((record.ceilings.matrix.by, record.ceilings.matrix.cublas_lt), (Multiplier::Registers, None));
    let text = serde_json::to_value(&record).expect("a record is JSON");
    assert_eq!(text["what"], "kernels");
    assert!(text["program"]["commit"].is_string() && text["machine"]["cpu"].is_string());
    let first = &text["cases"][0];
    assert_eq!(first["name"], "product_forward/qkv/M=1 N=128 K=32");
    assert_eq!(first["flops"], 2 * 128 * 32);
    assert!(first["seconds"]["median"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert_eq!(text["facts"]["shapes"]["products"], serde_json::json!([1, 17]));
}

#[test]
fn every_kernel_is_measured_on_a_cuda_device_beside_our_own_product_where_no_library_is() {
    let record = measured(&emulated(), &options());
    hold(&record);
    let matrix = &record.ceilings.matrix;
    assert_eq!((matrix.by, matrix.cublas_lt), (Multiplier::OwnProduct, Some(Presence::Absent)));
    assert_eq!(matrix.side, 64);
    assert_eq!(record.device.capability, Some([8, 0]));
    let text = serde_json::to_value(&record).expect("a record is JSON");
    assert_eq!(text["ceilings"]["matrix"]["by"], "own_product");
    assert_eq!(text["ceilings"]["matrix"]["cublas_lt"], "absent");
}

#[test]
fn a_filter_takes_the_cases_whose_names_contain_it() {
    let only = |filter: &str| {
        let record = measured(&device(), &KernelOptions { filter: filter.into(), ..options() });
        record.cases.into_iter().map(|case| case.name).collect::<Vec<_>>()
    };
    assert_eq!(only("decode"), ["attention_decode/B=2 keys=70 H=4 KVH=2 D=16"]);
    assert_eq!(only("product_forward/o/").len(), 2);
    assert!(only("no such kernel").is_empty());
}

#[test]
fn a_case_that_memory_does_not_hold_is_listed_with_the_bytes_that_it_needs() {
    let mut shapes = shapes();
    // More than any address space has.
    shapes.parameters = 1 << 50;
    let options = KernelOptions { filter: "grad_norm".into(), ..options() };
    let record = bench::kernels(&device(), &shapes, &options, &mut |_| ()).expect("a record");
    assert_eq!(record.not_run().count(), 1);
    let case = serde_json::to_value(&record.cases[0]).expect("a record is JSON");
    assert_eq!(case["bytes_needed"], Value::from(4u64 << 50));
    assert!(case["not_run"].as_str().is_some_and(|why| why.contains("bytes are needed")), "{case}");
}
