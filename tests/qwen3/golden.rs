//! One golden file: configuration, weights, inputs, outputs.

use std::collections::HashMap;

use patarm::checkpoint::{ModelFolder, Scan};
use patarm::device::{Device, DeviceChoice, Stream};
use patarm::qwen3::{Config, LowRank, Model};
use patarm::tensor::{Arena, DType};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub(crate) const MODELS: [&str; 7] = [
    "qwen3_tied_grouped",
    "qwen3_untied_full",
    "qwen3_untied_multiquery",
    "qwen3_tied_full",
    "qwen2_tied_grouped",
    "qwen2_untied_full",
    "llama_tied_grouped",
];

pub(crate) struct Golden {
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl Golden {
    pub(crate) fn open(name: &str) -> Self {
        let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a golden file");
        let metadata = header.metadata().clone().expect("golden files carry their settings");
        Self { bytes, metadata }
    }

    /// A JSON value of the file's metadata.
    pub(crate) fn settings(&self, key: &str) -> Value {
        serde_json::from_str(&self.metadata[key]).expect("JSON")
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("a golden file")
    }

    /// A tensor's values as f64.
    pub(crate) fn values(&self, name: &str) -> Vec<f64> {
        let all = self.tensors();
        let view = all.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bytes = view.data();
        match view.dtype() {
            Dtype::F64 => chunks(bytes).map(f64::from_le_bytes).collect(),
            Dtype::F32 => chunks(bytes).map(|b| f64::from(f32::from_le_bytes(b))).collect(),
            Dtype::I32 => chunks(bytes).map(|b| f64::from(i32::from_le_bytes(b))).collect(),
            other => panic!("{name} is stored as {other:?}"),
        }
    }

    /// Token ids, lengths, counts.
    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.values(name).into_iter().map(|x| x as u32).collect()
    }

    /// The file's weights as a Hugging Face folder.
    pub(crate) fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let all = self.tensors();
        let weights =
            all.iter().filter_map(|(name, view)| Some((name.strip_prefix("weight.")?.to_owned(), view)));
        let weights = safetensors::serialize(weights, None).expect("serialized");
        std::fs::write(folder.path().join("model.safetensors"), weights).expect("written");
        std::fs::write(folder.path().join("config.json"), &self.metadata["config"]).expect("written");
        folder
    }

    /// The model, read through the folder as a user's would be.
    pub(crate) fn model(&self, dtype: DType, arena: &mut Arena) -> Model {
        self.model_with(None, dtype, arena)
    }

    /// The same with room for an adapter.
    pub(crate) fn model_with(&self, adapter: Option<LowRank>, dtype: DType, arena: &mut Arena) -> Model {
        let folder = self.folder();
        let folder = ModelFolder::open(folder.path()).expect("a sound folder");
        let config = Config { adapter, ..Config::of(&folder).expect("a dense Qwen3") };
        let positions = config.positions;
        let mut model = Model::new(config, dtype, positions, arena).expect("fits");
        model.read(&folder, Scan::Finite).expect("every weight");
        model
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).map(|chunk| chunk.try_into().expect("chunks of N bytes"))
}

pub(crate) fn stream() -> Stream {
    Stream::new(Device::open(DeviceChoice::Cpu, 2).expect("a CPU"))
}

pub(crate) fn arena(stream: &Stream) -> Arena {
    Arena::new("test", stream.device(), 1 << 26)
}

/// The largest difference as a share of the largest reference value; not a number where anything is not.
pub(crate) fn apart(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().map(|x| x.abs()).fold(0.0, f64::max);
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst: f64, d| if d.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(d) })
        / largest
}

#[test]
fn a_difference_that_is_not_a_number_is_never_small() {
    let apart_from_nan = apart(&[1.0, f64::NAN, 1.0], &[1.0, 1.0, 1.0]);
    assert!(apart_from_nan.is_nan() || apart_from_nan > 1.0);
    assert_eq!(apart(&[1.0, 3.0, 4.0], &[1.0, 2.0, 4.0]), 0.25);
}
