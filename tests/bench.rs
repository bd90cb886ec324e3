//! Benchmarks measure real work, beside peers, and say so in a record.

use patarm::bench::{self, DecodeShape, Multiplier, Options, Record, TrainShape};
use patarm::device::{Device, DeviceChoice};
use patarm::qwen3::{Config, Keep};
use patarm::tensor::DType;
use serde_json::Value;

#[path = "kernels/on_cpu.rs"]
mod on_cpu;

#[path = "bench"]
mod measured {
    mod kernels;
    mod selftest;
}

fn config() -> Config {
    let text = r#"{"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","vocab_size":304,"hidden_size":32,
        "intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,
        "rms_norm_eps":1e-6,"rope_theta":1e6,"tie_word_embeddings":true,"max_position_embeddings":64,
        "hidden_act":"silu","attention_bias":false}"#;
    Config::parse(text).expect("a Qwen3 shape")
}

fn device() -> Device {
    Device::open(DeviceChoice::Cpu, 2).expect("a CPU")
}

/// A peer that takes a second for every ten tokens, whatever it is asked.
fn peer() -> String {
    r#"echo '{"ready":{"peer":"slow"}}'; while read line; do echo '{"seconds":1,"tokens":10,"load":0,"peak_bytes":1}'; done"#.into()
}

/// A CUDA device whose kernels run on the CPU.
fn emulated() -> Device {
    on_cpu::stream(0).device().clone()
}

fn train(dtype: DType, options: &Options) -> Record {
    let shape = TrainShape { config: config(), dtype, sequences: 3, length: 20, keep: Keep::All, tile: 16 };
    bench::train_step(&device(), shape, options, &mut |_, _| ()).expect("a record")
}

#[test]
fn a_measured_train_step_learns() {
    for dtype in [DType::F32, DType::BF16] {
        let record = train(dtype, &Options { repeats: 8, ..Options::default() });
        let losses: Vec<f64> =
            record.repeats.iter().map(|r| r.more["loss"].as_f64().expect("a loss")).collect();
        assert!((losses[0] - (304f64).ln()).abs() < 0.2, "{losses:?}");
        assert!(losses[7] < losses[0], "{losses:?}");
    }
}

#[test]
fn a_peer_is_compared_repeat_by_repeat() {
    let record =
        train(DType::F32, &Options { repeats: 5, warm_up: 0, peers: vec![peer()], ..Options::default() });
    let [slow] = &record.peers[..] else { panic!("one peer") };
    assert_eq!((slow.repeats.len(), record.repeats.len()), (5, 5));
    assert_eq!(slow.tokens_per_second.median, 10.0);
    assert!((slow.ratio.median - record.tokens_per_second.median / 10.0).abs() < 1e-9);
    assert_eq!(slow.ready["peer"], "slow");
    let text = serde_json::to_value(&record).expect("a record is JSON");
    assert!(text["program"]["commit"].is_string() && text["machine"]["cpu"].is_string());
    assert!(text["repeats"][0]["limits"]["flops"].as_f64().is_some_and(|x| x > 0.0));
}

#[test]
fn a_peer_that_breaks_the_protocol_is_an_error() {
    for broken in ["true", "echo nonsense", r#"echo '{"ready":1}'; read line; echo '{"seconds":1}'"#] {
        let options = Options { repeats: 1, warm_up: 0, peers: vec![broken.into()], ..Options::default() };
        let shape = TrainShape {
            config: config(),
            dtype: DType::F32,
            sequences: 1,
            length: 8,
            keep: Keep::All,
            tile: 8,
        };
        let error = bench::train_step(&device(), shape, &options, &mut |_, _| ()).expect_err("a broken peer");
        assert!(error.to_string().contains("peer"), "{error}");
    }
}

#[test]
fn a_cuda_device_trains_and_decodes_beside_its_own_limits() {
    let options = Options { repeats: 2, side: 64, ..Options::default() };
    let (config, dtype) = (config(), DType::BF16);
    let shape = TrainShape { config, dtype, sequences: 1, length: 12, keep: Keep::All, tile: 16 };
    let record = bench::train_step(&emulated(), shape, &options, &mut |_, _| ()).expect("a record");
    let losses: Vec<f64> = record.repeats.iter().map(|r| r.more["loss"].as_f64().expect("a loss")).collect();
    assert!((losses[0] - (304f64).ln()).abs() < 0.2 && losses[1] < losses[0], "{losses:?}");
    let limits = record.repeats[0].limits.expect("limits just before");
    assert_eq!(limits.by, Multiplier::OwnProduct);
    assert!(limits.flops > 0.0 && limits.read > 0.0);
    assert_eq!(record.device.capability, Some([8, 0]));
    let shape = DecodeShape { config: crate::config(), dtype, batch: 2, prompt: 9, steps: 3 };
    let record = bench::decode(&emulated(), shape, &options, &mut |_, _| ()).expect("a record");
    assert!(record.repeats.iter().all(|r| r.tokens == 6));
}

#[test]
fn decoding_is_measured_after_the_prompt_and_repeats_itself() {
    let shape = DecodeShape { config: config(), dtype: DType::F32, batch: 3, prompt: 9, steps: 5 };
    let record = bench::decode(&device(), shape, &Options::default(), &mut |_, _| ()).expect("a record");
    let rows: Vec<&Value> = record.repeats.iter().map(|r| &r.more["first_row"]).collect();
    assert!(rows.iter().all(|row| *row == rows[0] && row.as_array().is_some_and(|row| row.len() == 7)));
    assert!(record.repeats.iter().all(|r| r.tokens == 15));
}
