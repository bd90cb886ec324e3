use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::header::Entry;
use super::shard::Shard;
use super::{CheckpointError, Fault, Marker, Scan, Stored, convert};
use crate::dims;
use crate::tensor::{DType, Tensor};

/// How one tensor differs between two folders.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorDifference {
    /// Only the first folder has it.
    OnlyFirst,
    /// Only the second folder has it.
    OnlySecond,
    /// Another dtype or shape.
    Form {
        /// In the first folder.
        first: (Stored, Vec<u64>),
        /// In the second folder.
        second: (Stored, Vec<u64>),
    },
    /// The same form, other bits.
    Values {
        /// Elements in all.
        elements: usize,
        /// Elements whose bits differ.
        differing: usize,
        /// Largest difference of two values; NaN where one of them is, none of integers.
        largest: Option<f64>,
    },
}

/// Holds a checkpoint against its marker and itself: every file's length and hash, every header, every value finite, and what
/// the state holds for a weight (`first.NAME`) of that weight's shape. Says how many bytes were read.
///
/// # Errors
/// The first file that differs, or the first tensor that is wrong, by name.
pub fn inspect(folder: &Path) -> Result<u64, CheckpointError> {
    let marker = Marker::read(folder)?;
    marker.verify(folder)?;
    let shards = shards(folder)?;
    let tensors = tensors(&shards);
    for (name, (shard, entry)) in &tensors {
        let weight = name.split_once('.').and_then(|(_, weight)| tensors.get(weight));
        if let Some((_, weight)) = weight
            && weight.shape != entry.shape
        {
            let (found, expected) = (entry.shape.clone(), format!("{:?}, the weight's", weight.shape));
            return Err(shard.fault(name, Fault::Shape { found, expected }));
        }
        if entry.stored.is_float() {
            values(shard, entry, Scan::Finite).map_err(|fault| shard.fault(name, fault))?;
        }
    }
    Ok(marker.files.values().map(|file| file.bytes).sum())
}

/// Every tensor that two folders do not both have bit for bit, by name.
///
/// # Errors
/// When a file can't be read or is malformed.
pub fn compare(first: &Path, second: &Path) -> Result<BTreeMap<String, TensorDifference>, CheckpointError> {
    let (first, second) = (shards(first)?, shards(second)?);
    let (first, second) = (tensors(&first), tensors(&second));
    let names: BTreeSet<&str> = first.keys().chain(second.keys()).copied().collect();
    let mut found = BTreeMap::new();
    for name in names {
        let difference = match (first.get(name), second.get(name)) {
            (Some(a), Some(b)) => between(name, *a, *b)?,
            (Some(_), None) => Some(TensorDifference::OnlyFirst),
            _ => Some(TensorDifference::OnlySecond),
        };
        found.extend(difference.map(|difference| (name.to_owned(), difference)));
    }
    Ok(found)
}

type Place<'a> = (&'a Shard, &'a Entry);

fn between(
    name: &str,
    (a, x): Place<'_>,
    (b, y): Place<'_>,
) -> Result<Option<TensorDifference>, CheckpointError> {
    let (first, second) = ((x.stored, x.shape.clone()), (y.stored, y.shape.clone()));
    if first != second {
        return Ok(Some(TensorDifference::Form { first, second }));
    }
    let (p, q) = (a.bytes(x), b.bytes(y));
    if p == q {
        return Ok(None);
    }
    let size = x.stored.size();
    let differing = p.chunks(size).zip(q.chunks(size)).filter(|(p, q)| p != q).count();
    let largest = match x.stored {
        stored if !stored.is_float() => None,
        _ => {
            let read =
                |shard: &Shard, entry| values(shard, entry, Scan::Skip).map_err(|f| shard.fault(name, f));
            let (p, q) = (read(a, x)?.view().to_f64(), read(b, y)?.view().to_f64());
            let apart = p.iter().zip(&q).filter(|(p, q)| p != q).map(|(p, q)| (p - q).abs());
            Some(apart.fold(0.0, |most: f64, d| if d > most || d.is_nan() { d } else { most }))
        }
    };
    Ok(Some(TensorDifference::Values { elements: p.len() / size, differing, largest }))
}

fn values(shard: &Shard, entry: &Entry, scan: Scan) -> Result<Tensor, Fault> {
    let bytes = shard.bytes(entry);
    let mut tensor = Tensor::zeros(DType::F64, dims![N: bytes.len() / entry.stored.size()]);
    convert::convert(bytes, entry.stored, tensor.view_mut(), scan)?;
    Ok(tensor)
}

/// Every safetensors file of a folder, by name.
fn shards(folder: &Path) -> Result<Vec<Shard>, CheckpointError> {
    let failed = || CheckpointError::io(folder, "read it");
    let entries = folder.read_dir().map_err(failed())?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(failed())?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    if paths.is_empty() {
        return Err(CheckpointError::malformed(
            folder,
            "no safetensors file in it: neither a checkpoint nor a model",
        ));
    }
    paths.into_iter().map(Shard::open).collect()
}

fn tensors(shards: &[Shard]) -> BTreeMap<&str, Place<'_>> {
    shards
        .iter()
        .flat_map(|shard| shard.entries.iter().map(move |(name, entry)| (name.as_str(), (shard, entry))))
        .collect()
}
