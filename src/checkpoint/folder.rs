use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::shard::Shard;
use super::{CheckpointError, Companion, Fault, Layout, Scan, Stored, config};
use crate::tensor::{Dims, ViewMut};

/// A parameter that the configuration calls for.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Name in the files.
    pub name: String,
    /// Its named sizes.
    pub dims: Dims,
}

/// A tensor that a file may hold although it is only another one's copy (`lm_head.weight` of a tied model).
#[derive(Clone, Copy, Debug)]
pub struct Tied<'a> {
    /// Name in the files.
    pub name: &'a str,
    /// The tensor whose values it must have.
    pub of: &'a str,
}

/// A Hugging Face folder, or an adapter's: configuration, checked headers, mapped weights.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: Value,
    generation: Option<Value>,
    shards: Vec<Shard>,
    /// Which shard holds a tensor.
    place: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ModelFolder {
    /// Opens a model's folder and checks every header and the index; no weight is read and nothing of their size allocated.
    ///
    /// # Errors
    /// When a file is missing or malformed; the message names the file and the tensor.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CheckpointError> {
        Self::open_as(path, Layout::Model)
    }

    /// The same, for a folder of either kind.
    ///
    /// # Errors
    /// When a file is missing or malformed; the message names the file and the tensor.
    pub fn open_as(path: impl Into<PathBuf>, layout: Layout) -> Result<Self, CheckpointError> {
        let path = path.into();
        let at = path.join(layout.config());
        let config =
            config::read_json(&at)?.ok_or_else(|| CheckpointError::malformed(&at, layout.missing(&path)))?;
        let generation = config::read_json(&path.join("generation_config.json"))?;
        let single = format!("{}.safetensors", layout.weights());
        let index = format!("{single}.index.json");
        let shards = if path.join(&single).exists() {
            vec![Shard::open(path.join(single))?]
        } else if let Some(told) = config::read_json::<Index>(&path.join(&index))? {
            open_shards(&path, (&index, &told))?
        } else {
            let reason = format!("neither {single} nor {index} in it (pickled weights are not read)");
            return Err(CheckpointError::malformed(&path, reason));
        };
        let place = shards
            .iter()
            .enumerate()
            .flat_map(|(i, s)| s.entries.keys().map(move |k| (k.clone(), i)))
            .collect();
        Ok(Self { path, config, generation, shards, place })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json` as it stands.
    pub fn config_json(&self) -> &Value {
        &self.config
    }

    /// `config.json` as a typed configuration.
    ///
    /// # Errors
    /// When it does not fit `T`.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        T::deserialize(&self.config)
            .map_err(|e| CheckpointError::malformed(&self.path.join("config.json"), e.to_string()))
    }

    /// Ids that end a sequence: generation_config.json's `eos_token_id`, else config.json's; a number or a list.
    pub fn end_tokens(&self) -> Vec<u32> {
        config::end_tokens(self.generation.as_ref(), &self.config)
    }

    /// Tokenizer, template and generation files, to be carried byte for byte.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn companions(&self) -> Result<Vec<Companion>, CheckpointError> {
        config::companions(&self.path)
    }

    /// How the files store tensor `name`, if they hold it.
    pub fn stored(&self, name: &str) -> Option<Stored> {
        Some(self.shards[*self.place.get(name)?].entries[name].stored)
    }

    /// Holds the files against what the configuration calls for: every tensor there, of its shape, a float, and no other.
    /// Call it before planning memory.
    ///
    /// # Errors
    /// The first tensor that is missing, of another shape or dtype, unexpected, or tied and yet different.
    pub fn check(&self, expected: &[Expected], tied: Option<Tied<'_>>) -> Result<(), CheckpointError> {
        for Expected { name, dims } in expected {
            let shard = self.shard(name)?;
            shard.check_shape(name, *dims)?;
            let found = shard.entry(name)?.stored;
            if !found.is_float() {
                return Err(shard.fault(name, Fault::StoredAs { found, expected: Stored::F32 }));
            }
        }
        let known: BTreeSet<&str> = expected.iter().map(|e| e.name.as_str()).collect();
        for name in self.place.keys().filter(|name| !known.contains(name.as_str())) {
            match tied {
                Some(tied) if tied.name == name => self.check_tied(tied)?,
                _ => return Err(self.shard(name)?.fault(name, Fault::Unexpected)),
            }
        }
        Ok(())
    }

    fn check_tied(&self, Tied { name, of }: Tied<'_>) -> Result<(), CheckpointError> {
        let (copy, original) = (self.shard(name)?, self.shard(of)?);
        let (a, b) = (copy.entry(name)?, original.entry(of)?);
        if (a.stored, &a.shape) == (b.stored, &b.shape) && copy.bytes(a) == original.bytes(b) {
            return Ok(());
        }
        Err(copy.fault(name, Fault::Untied(of.to_owned())))
    }

    /// Reads one tensor into memory of the caller's, converted to its dtype (each value rounded once).
    ///
    /// # Errors
    /// When it is missing, of another shape, or holds what `scan` refuses.
    pub fn read(&self, name: &str, out: ViewMut<'_>, scan: Scan) -> Result<(), CheckpointError> {
        self.shard(name)?.read(name, out, scan)
    }

    fn shard(&self, name: &str) -> Result<&Shard, CheckpointError> {
        let missing = || CheckpointError::tensor(&self.path, name, Fault::Missing);
        self.place.get(name).map(|&i| &self.shards[i]).ok_or_else(missing)
    }
}

/// Opens every file that an index names, and holds both against each other.
fn open_shards(folder: &Path, (name, index): (&str, &Index)) -> Result<Vec<Shard>, CheckpointError> {
    let at = folder.join(name);
    let files: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    if let Some(outside) = files.iter().find(|name| !is_plain(name)) {
        return Err(CheckpointError::malformed(&at, format!("names a file outside the folder: `{outside}`")));
    }
    let mut shards = Vec::with_capacity(files.len());
    for file in files {
        let shard = Shard::open(folder.join(file))?;
        for name in shard.entries.keys() {
            match index.weight_map.get(name) {
                Some(place) if place == file => {}
                Some(_) => return Err(shard.fault(name, Fault::Twice)),
                None => return Err(shard.fault(name, Fault::Unexpected)),
            }
        }
        let named = index.weight_map.iter().filter(|(_, place)| *place == file);
        for (name, _) in named {
            shard.entry(name)?;
        }
        shards.push(shard);
    }
    Ok(shards)
}

/// Whether a name is that of a file in the same folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(part)), None) if part == name)
}
