use std::collections::BTreeMap;
use std::path::PathBuf;

use super::header::{self, Entry, Refusal};
use super::{CheckpointError, Fault, Scan, convert};
use crate::device::MappedFile;
use crate::tensor::{Dims, ViewMut};

/// One safetensors file, mapped, its header checked.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    map: MappedFile,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Shard {
    pub(super) fn open(path: PathBuf) -> Result<Self, CheckpointError> {
        let map = MappedFile::open(&path).map_err(CheckpointError::io(&path, "read it"))?;
        let entries = header::parse(map.bytes()).map_err(|refusal| match refusal {
            Refusal::File(reason) => CheckpointError::malformed(&path, reason),
            Refusal::Tensor(tensor, fault) => CheckpointError::tensor(&path, &tensor, fault),
        })?;
        Ok(Self { path, map, entries })
    }

    pub(super) fn fault(&self, name: &str, fault: Fault) -> CheckpointError {
        CheckpointError::tensor(&self.path, name, fault)
    }

    pub(super) fn entry(&self, name: &str) -> Result<&Entry, CheckpointError> {
        self.entries.get(name).ok_or_else(|| self.fault(name, Fault::Missing))
    }

    pub(super) fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.map.bytes()[entry.range.clone()]
    }

    pub(super) fn check_shape(&self, name: &str, dims: Dims) -> Result<(), CheckpointError> {
        let found = &self.entry(name)?.shape;
        if found.iter().copied().eq(dims.axes().iter().map(|(_, size)| *size as u64)) {
            return Ok(());
        }
        Err(self.fault(name, Fault::Shape { found: found.clone(), expected: dims.to_string() }))
    }

    pub(super) fn read(&self, name: &str, out: ViewMut<'_>, scan: Scan) -> Result<(), CheckpointError> {
        self.check_shape(name, out.dims())?;
        let entry = self.entry(name)?;
        convert::convert(self.bytes(entry), entry.stored, out, scan).map_err(|fault| self.fault(name, fault))
    }
}
