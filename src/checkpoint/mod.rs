//! Hugging Face folders in and out; training state, bit-exact.
//!
//! Reading: every header and index is checked (row 9 of the conformance table) before anything is allocated; tensors are then
//! converted straight from the mapped file into the memory that the caller planned. Writing: everything goes into a folder of
//! a temporary name, each file made durable, the marker with every file's length and blake3 hash last; one rename makes it
//! visible. What was there before is never touched first.

mod config;
mod convert;
mod disk;
mod error;
mod folder;
mod header;
mod history;
mod inspect;
mod layout;
mod marker;
mod save;
mod shard;
mod state;
mod stored;

pub use config::Companion;
pub use convert::Scan;
pub use disk::{Disk, LocalDisk};
pub use error::{CheckpointError, Fault};
pub use folder::{Expected, ModelFolder, Tied};
pub use history::{Better, Checkpoints, Found, Keep, Saved};
pub use inspect::{TensorDifference, compare, inspect};
pub use layout::Layout;
pub use marker::{FileRecord, MARKER, Marker};
pub use save::{Named, SHARD_BYTES, Save};
pub use state::{SavedState, State};
pub use stored::Stored;
