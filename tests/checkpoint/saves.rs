//! What is saved reads back bit for bit, here and by a reader that is not ours.

use std::fs;

use half::bf16;
use patarm::checkpoint::{Companion, LocalDisk, Marker, ModelFolder, Save, SavedState, Scan, State};
use patarm::dims;
use patarm::tensor::{DType, Tensor};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::{config, named, read, weights};

#[test]
fn weights_survive_a_save_bit_for_bit() {
    let (folder, weights) = (tempfile::tempdir().expect("a folder"), weights());
    let target = folder.path().join("out");
    Save::new(&config(), &named(&weights)).write(&LocalDisk, &target).expect("saved");
    let bytes = fs::read(target.join("model.safetensors")).expect("one file");
    let theirs = SafeTensors::deserialize(&bytes).expect("a file that others read");
    for (name, tensor) in &weights {
        assert_eq!(theirs.tensor(name).expect("there").data(), tensor.view().host_bytes(), "{name}");
        assert_eq!(read(&target, name, DType::F32, tensor.dims()), tensor.view().to_f64(), "{name}");
    }
    assert_eq!(theirs.tensor("embed").expect("there").shape(), [5, 3]);
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing temporary is left");
}

#[test]
fn a_large_model_is_split_over_files_with_an_index() {
    let (folder, weights) = (tempfile::tempdir().expect("a folder"), weights());
    let target = folder.path().join("out");
    Save { shard_bytes: 60, ..Save::new(&config(), &named(&weights)) }
        .write(&LocalDisk, &target)
        .expect("saved");
    let index: Value =
        serde_json::from_slice(&fs::read(target.join("model.safetensors.index.json")).expect("an index"))
            .expect("JSON");
    assert_eq!(index["metadata"]["total_size"], 72);
    assert_eq!(index["weight_map"]["embed"], "model-00001-of-00002.safetensors");
    assert_eq!(index["weight_map"]["norm"], "model-00002-of-00002.safetensors");
    for (name, tensor) in &weights {
        assert_eq!(read(&target, name, DType::F32, tensor.dims()), tensor.view().to_f64());
    }
}

#[test]
fn a_save_in_another_dtype_rounds_each_value_and_says_so_in_the_configuration() {
    let (folder, weights) = (tempfile::tempdir().expect("a folder"), weights());
    let target = folder.path().join("out");
    Save { dtype: Some(DType::BF16), ..Save::new(&config(), &named(&weights)) }
        .write(&LocalDisk, &target)
        .expect("saved");
    let stored = read(&target, "embed", DType::BF16, dims![V: 5, C: 3]);
    let rounded: Vec<f64> =
        weights[0].1.view().host::<f32>().iter().map(|&x| bf16::from_f32(x).to_f64()).collect();
    assert_eq!(stored, rounded);
    assert_eq!(ModelFolder::open(&target).expect("sound").config_json()["torch_dtype"], "bfloat16");
    let as_is = folder.path().join("as_is");
    Save::new(&config(), &named(&weights)).write(&LocalDisk, &as_is).expect("saved");
    assert_eq!(ModelFolder::open(&as_is).expect("sound").config_json()["torch_dtype"], "float32");
}

#[test]
fn companions_are_carried_byte_for_byte() {
    let (folder, weights) = (tempfile::tempdir().expect("a folder"), weights());
    let companions: Vec<Companion> =
        [("chat_template.jinja", "a\r\n\u{feff}b"), ("tokenizer.json", "{ }\n\n")]
            .map(|(name, text)| Companion { name: name.into(), bytes: text.into() })
            .into();
    let (first, second) = (folder.path().join("1"), folder.path().join("2"));
    let (config, views) = (config(), named(&weights));
    let save = Save { companions: &companions, ..Save::new(&config, &views) };
    save.write(&LocalDisk, &first).expect("saved");
    let mut carried = ModelFolder::open(&first).expect("sound").companions().expect("read");
    carried.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(carried, companions);
    let again = Save { companions: &carried, ..Save::new(&config, &views) };
    let markers = (Marker::read(&first).expect("complete"), again.write(&LocalDisk, &second).expect("saved"));
    assert_eq!(markers.0, markers.1, "the same contents have the same files and hashes");
}

#[test]
fn a_training_state_survives_bit_for_bit_in_its_own_dtypes() {
    let (folder, weights) = (tempfile::tempdir().expect("a folder"), weights());
    let strange = [f64::NAN, -0.0, 5e-324, f64::MAX];
    let tensors = vec![
        ("moment".to_owned(), Tensor::from_slice(&strange, dims![N: 4])),
        ("counter".to_owned(), Tensor::from_ids(&[0, u32::MAX, 7], dims![N: 3])),
        ("low".to_owned(), Tensor::from_slice(&[bf16::from_bits(0x7fc1), bf16::from_bits(1)], dims![N: 2])),
    ];
    let facts = json!({ "seed": u64::MAX, "position": [3, 5], "rate": 0.1 });
    let (config, views, moments) = (config(), named(&weights), named(&tensors));
    let state = State { step: 20, score: Some(0.75), facts: &facts, tensors: &moments };
    let target = folder.path().join("step");
    let save = Save { state: Some(state), ..Save::new(&config, &views) };
    assert_eq!(save.write(&LocalDisk, &target).expect("saved").step, 20);
    let back = SavedState::open(&target).expect("a state");
    assert_eq!(back.facts::<Value>().expect("JSON"), facts);
    assert_eq!(back.names().count(), 3);
    for (name, tensor) in &tensors {
        let mut out = Tensor::zeros(tensor.dtype(), tensor.dims());
        back.read(name, out.view_mut()).expect("the same dtype and shape");
        assert_eq!(out.view().host_bytes(), tensor.view().host_bytes(), "{name}");
    }
    let mut other = Tensor::zeros(DType::F32, dims![N: 4]);
    assert!(back.read("moment", other.view_mut()).is_err(), "a state is never converted");
}

#[test]
fn a_save_never_overwrites_but_fills_an_empty_folder() {
    let (folder, weights) = (tempfile::tempdir().expect("a folder"), weights());
    let target = folder.path().join("out");
    fs::create_dir(&target).expect("created");
    let (config, views) = (config(), named(&weights));
    let save = Save::new(&config, &views);
    save.write(&LocalDisk, &target).expect("an empty folder may be filled");
    let before = fs::read(target.join("complete.json")).expect("read");
    let error = save.write(&LocalDisk, &target).expect_err("exists");
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(fs::read(target.join("complete.json")).expect("read"), before);
}

#[test]
fn a_file_of_another_writer_reads_as_another_reader_reads_it() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/qwen3_untied_full.safetensors");
    let bytes = fs::read(golden).expect("a golden file");
    let golden = SafeTensors::deserialize(&bytes).expect("sound");
    let weights: Vec<_> = golden.iter().filter(|(name, _)| name.starts_with("weight.")).collect();
    assert_eq!(weights.len(), 25);
    let copy = safetensors::serialize(weights.clone(), None).expect("serialized");
    let folder = super::folder(&[("model.safetensors", &copy)]);
    let open = ModelFolder::open(folder.path()).expect("sound");
    for (name, view) in weights {
        let dims = match *view.shape() {
            [rows, columns] => dims![V: rows, C: columns],
            ref shape => dims![C: shape[0]],
        };
        let mut out = Tensor::zeros(DType::F32, dims);
        open.read(name, out.view_mut(), Scan::Finite).expect("sound");
        assert_eq!(out.view().host_bytes(), view.data(), "{name}");
    }
}
