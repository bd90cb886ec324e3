use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::with_dtype;
use super::marker::Hashing;
use super::{
    CheckpointError, Companion, Disk, FileRecord, Layout, MARKER, Marker, State, Stored, convert, header,
};
use crate::tensor::{DType, View};

/// The most bytes of weights that one file holds, unless the caller says otherwise.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// Elements that are converted at a time.
const CHUNK: usize = 1 << 18;

/// A tensor under its name in the file.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// Name in the file.
    pub name: String,
    /// Values.
    pub tensor: View<'a>,
}

/// Everything that one save writes.
#[derive(Clone, Debug)]
pub struct Save<'a> {
    /// How its files are named.
    pub layout: Layout,
    /// The configuration; a model's dtype is set to that of the weights.
    pub config: &'a Value,
    /// Parameters in the order in which they shall stand.
    pub weights: &'a [Named<'a>],
    /// Files carried as they are.
    pub companions: &'a [Companion],
    /// What a resumed run needs; `None` for a model folder.
    pub state: Option<State<'a>>,
    /// Dtype of the weights in the file; `None` keeps each as it lies.
    pub dtype: Option<DType>,
    /// The most bytes of weights in one file.
    pub shard_bytes: u64,
}

impl<'a> Save<'a> {
    /// A model folder: weights as they lie, nothing else.
    pub fn new(config: &'a Value, weights: &'a [Named<'a>]) -> Self {
        let layout = Layout::Model;
        Self { layout, config, weights, companions: &[], state: None, dtype: None, shard_bytes: SHARD_BYTES }
    }

    /// Writes the folder `target`, which must not exist (an empty one may): under a temporary name beside it, every file made
    /// durable, the marker last, then one rename. Whatever fails, `target` is complete or not there.
    ///
    /// # Errors
    /// When `target` exists, or the disk fails or is full; what was half written is removed as far as the disk allows.
    pub fn write(&self, disk: &dyn Disk, target: &Path) -> Result<Marker, CheckpointError> {
        if target.read_dir().map_or(target.exists(), |mut entries| entries.next().is_some()) {
            return Err(CheckpointError::Exists { path: target.to_owned() });
        }
        let staging = Staging::begin(disk, target)?;
        let result = room(disk, &partial(target), self.bytes()).and_then(|_| self.fill(staging));
        if result.is_err() {
            let _ = disk.remove_folder(&partial(target)); // the disk that failed may refuse this too; the next save removes it
        }
        result
    }

    /// Bytes of all files, headers and small ones rounded up.
    pub fn bytes(&self) -> u64 {
        const SMALL: u64 = 1 << 16;
        let state = self.state.iter().flat_map(|state| state.tensors);
        let facts = self.state.as_ref().map_or(0, |state| state.facts.to_string().len() as u64 * 2);
        let tensors = self.weights.iter().map(|w| self.tensor_bytes(w)).sum::<u64>()
            + state.clone().map(|t| t.tensor.bytes() as u64).sum::<u64>();
        let headers = (self.weights.len() + state.count()) as u64 * 256;
        tensors + headers + facts + self.companions.iter().map(|c| c.bytes.len() as u64).sum::<u64>() + SMALL
    }

    fn fill(&self, mut staging: Staging<'_>) -> Result<Marker, CheckpointError> {
        let config = match self.dtype.or(self.weights.first().map(|w| w.tensor.dtype())) {
            Some(dtype) if self.layout == Layout::Model => with_dtype(self.config, dtype),
            _ => self.config.clone(),
        };
        staging.json(self.layout.config(), &config)?;
        for Companion { name, bytes } in self.companions {
            staging.file(name, &mut |out| out.write_all(bytes))?;
        }
        self.write_weights(&mut staging)?;
        let Some(state) = &self.state else { return staging.finish(0, None) };
        staging.json(super::state::FACTS, state.facts)?;
        staging.tensors(super::state::TENSORS, state.tensors, None)?;
        staging.finish(state.step, state.score)
    }

    fn write_weights(&self, staging: &mut Staging<'_>) -> Result<(), CheckpointError> {
        let (shards, stem) = (self.shards(), self.layout.weights());
        if let [all] = shards.as_slice() {
            return staging.tensors(&format!("{stem}.safetensors"), all, self.dtype);
        }
        let (mut places, mut total) = (serde_json::Map::new(), 0);
        for (i, shard) in shards.iter().enumerate() {
            let file = format!("{stem}-{:05}-of-{:05}.safetensors", i + 1, shards.len());
            staging.tensors(&file, shard, self.dtype)?;
            for weight in *shard {
                total += self.tensor_bytes(weight);
                places.insert(weight.name.clone(), file.as_str().into());
            }
        }
        staging.json(
            &format!("{stem}.safetensors.index.json"),
            &json!({ "metadata": { "total_size": total }, "weight_map": places }),
        )
    }

    /// Consecutive weights, as many to a file as fit; at least one file.
    fn shards(&self) -> Vec<&[Named<'a>]> {
        let (mut shards, mut start, mut filled) = (Vec::new(), 0, 0);
        for (i, weight) in self.weights.iter().enumerate() {
            let bytes = self.tensor_bytes(weight);
            if i > start && filled + bytes > self.shard_bytes {
                shards.push(&self.weights[start..i]);
                (start, filled) = (i, 0);
            }
            filled += bytes;
        }
        shards.push(&self.weights[start..]);
        shards
    }

    fn tensor_bytes(&self, weight: &Named<'_>) -> u64 {
        let stored = stored(weight, self.dtype);
        (weight.tensor.dims().count() * stored.size()) as u64
    }
}

/// Bytes that are free at `folder`, at least `needed`.
pub(super) fn room(disk: &dyn Disk, folder: &Path, needed: u64) -> Result<u64, CheckpointError> {
    let free = disk.free(folder).map_err(CheckpointError::io(folder, "ask for its free space"))?;
    match free < needed {
        true => Err(CheckpointError::NoRoom { path: folder.to_owned(), needed, free }),
        false => Ok(free),
    }
}

fn stored(tensor: &Named<'_>, dtype: Option<DType>) -> Stored {
    dtype.unwrap_or(tensor.tensor.dtype()).into()
}

/// The temporary name beside `target`.
fn partial(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.partial"))
}

/// A folder that is being written under a temporary name.
struct Staging<'a> {
    disk: &'a dyn Disk,
    folder: PathBuf,
    target: &'a Path,
    files: BTreeMap<String, FileRecord>,
}

impl<'a> Staging<'a> {
    fn begin(disk: &'a dyn Disk, target: &'a Path) -> Result<Self, CheckpointError> {
        let folder = partial(target);
        if folder.exists() {
            disk.remove_folder(&folder)
                .map_err(CheckpointError::io(&folder, "remove what a cut-off save left"))?;
        }
        disk.create_folder(&folder).map_err(CheckpointError::io(&folder, "create it"))?;
        Ok(Self { disk, folder, target, files: BTreeMap::new() })
    }

    fn file(
        &mut self,
        name: &str,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CheckpointError> {
        let path = self.folder.join(name);
        let mut record = None;
        let hashed = &mut |out: &mut dyn Write| {
            let mut out = Hashing::new(out);
            fill(&mut out)?;
            record = Some(out.record());
            Ok(())
        };
        self.disk.write_file(&path, hashed).map_err(CheckpointError::io(&path, "write it"))?;
        let record = record.expect("a disk that wrote a file has called `fill`");
        self.files.insert(name.to_owned(), record);
        Ok(())
    }

    fn json(&mut self, name: &str, value: &impl serde::Serialize) -> Result<(), CheckpointError> {
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|e| CheckpointError::malformed(&self.folder.join(name), e.to_string()))?;
        text.push('\n');
        self.file(name, &mut |out| out.write_all(text.as_bytes()))
    }

    fn tensors(
        &mut self,
        name: &str,
        tensors: &[Named<'_>],
        dtype: Option<DType>,
    ) -> Result<(), CheckpointError> {
        let shape = |t: &Named<'_>| t.tensor.dims().axes().iter().map(|(_, size)| *size).collect();
        let entries: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), stored(t, dtype), shape(t))).collect();
        let header = header::write(&entries);
        self.file(name, &mut |out| {
            out.write_all(&header)?;
            tensors.iter().try_for_each(|t| write_tensor(out, t, stored(t, dtype)))
        })
    }

    /// Everything is durable; the marker and the rename make it valid and visible, in this order.
    fn finish(self, step: u64, score: Option<f64>) -> Result<Marker, CheckpointError> {
        let Self { disk, folder, target, files } = self;
        let marker = Marker { format: 1, step, score: score.filter(|s| s.is_finite()), files };
        let text = serde_json::to_vec_pretty(&marker).expect("a marker is plain JSON");
        let sync = |path: &Path| disk.sync_folder(path).map_err(CheckpointError::io(path, "make it durable"));
        sync(&folder)?;
        let at = folder.join(MARKER);
        disk.write_file(&at, &mut |out| out.write_all(&text))
            .map_err(CheckpointError::io(&at, "write it"))?;
        sync(&folder)?;
        disk.rename(&folder, target)
            .map_err(CheckpointError::io(target, "rename the finished folder to it"))?;
        sync(target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        Ok(marker)
    }
}

fn write_tensor(out: &mut dyn Write, tensor: &Named<'_>, stored: Stored) -> io::Result<()> {
    let dtype = tensor.tensor.dtype();
    let bytes = tensor.tensor.read_bytes().map_err(io::Error::other)?;
    let mut chunks = bytes.chunks(CHUNK * dtype.size());
    chunks.try_for_each(|chunk| out.write_all(&convert::narrow(chunk, dtype, stored)))
}
