use std::io;
use std::path::{Path, PathBuf};

use super::Stored;
use crate::device::DeviceError;

/// What can be wrong with a checkpoint, with the file and the tensor it is wrong in.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk said no.
    #[error("{path}: cannot {doing}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{path}: {reason}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// One tensor is wrong.
    #[error("{path}: tensor `{tensor}`: {fault}")]
    Tensor {
        /// Which file or folder.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The marker that is written last is missing: the save was cut off, or this is no checkpoint of this program.
    #[error("{path}: no {} in it: not a complete checkpoint", super::MARKER)]
    Incomplete {
        /// The folder.
        path: PathBuf,
    },
    /// A file differs from what the marker says was written.
    #[error("{path}: damaged: {reason}; fall back to an older checkpoint")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Length or hash, as told and as found.
        reason: String,
    },
    /// The disk has no room for a save.
    #[error("{path}: a save needs {needed} bytes, the disk has {free} left; make room")]
    NoRoom {
        /// Where it would be.
        path: PathBuf,
        /// Bytes of all its files.
        needed: u64,
        /// Bytes left.
        free: u64,
    },
    /// There are checkpoints, and none is as it was written.
    #[error("{path}: no sound checkpoint: {}", reasons.join("; "))]
    NoneSound {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// Of each, the newest first.
        reasons: Vec<String>,
    },
    /// Saving never overwrites.
    #[error("{path} exists already; name a folder that does not, or remove it first")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
}

/// What can be wrong with one tensor of a file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A dtype that this program does not read.
    #[error("dtype `{0}` is not read here (F64, F32, BF16, F16, U32, U8 are)")]
    Dtype(String),
    /// Floats where integers should be, or the other way round, or not the exact dtype of a training state.
    #[error("stored as {found:?}, expected {expected:?}")]
    StoredAs {
        /// In the file.
        found: Stored,
        /// What the reader needs.
        expected: Stored,
    },
    /// The device did not take it.
    #[error("{0}")]
    Device(String),
    /// The shape differs from the configuration's.
    #[error("shape {found:?}, but config.json says {expected}")]
    Shape {
        /// In the file.
        found: Vec<u64>,
        /// By the configuration, with the names of the dimensions.
        expected: String,
    },
    /// The product of the shape does not fit an address.
    #[error("shape {0:?} overflows")]
    Overflow(Vec<u64>),
    /// The offsets say another length than shape and dtype.
    #[error("data_offsets hold {found} bytes, shape and dtype need {needed}")]
    Length {
        /// By the offsets.
        found: u64,
        /// By shape and dtype.
        needed: u64,
    },
    /// The offsets run backwards.
    #[error("data_offsets [{0}, {1}] run backwards")]
    Backwards(u64, u64),
    /// It shares bytes with the tensor before it.
    #[error("overlaps `{0}`")]
    Overlap(String),
    /// Bytes before it belong to no tensor.
    #[error("{0} bytes before it belong to no tensor")]
    Hole(u64),
    /// It ends beyond the end of the file.
    #[error("ends at byte {end} of {data} bytes of data: the file is cut off or its header is wrong")]
    PastEnd {
        /// Where it ends, from the start of the data.
        end: u64,
        /// Bytes of data in the file.
        data: u64,
    },
    /// The name stands twice.
    #[error("named twice")]
    Twice,
    /// The model needs it and no file has it.
    #[error("missing")]
    Missing,
    /// The model has no place for it.
    #[error("the configuration has no place for it")]
    Unexpected,
    /// The configuration ties it to another one whose values are others.
    #[error("config.json ties it to `{0}`, but their values differ")]
    Untied(String),
    /// Not a finite number.
    #[error("element {index} is {value}: the file is damaged, or training diverged before it was saved")]
    NotFinite {
        /// Position in row-major order.
        index: usize,
        /// NaN, inf, or a finite value that the asked dtype cannot hold.
        value: f64,
    },
}

impl CheckpointError {
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }

    pub(super) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.into() }
    }

    pub(super) fn tensor(path: &Path, tensor: &str, fault: Fault) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), fault }
    }
}

impl From<DeviceError> for Fault {
    fn from(error: DeviceError) -> Self {
        Self::Device(error.to_string())
    }
}
