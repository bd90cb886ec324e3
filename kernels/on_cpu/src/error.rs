//! What goes wrong.

use std::fmt;

/// Why a call did nothing, or what a launch did wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The shared objects cannot be loaded.
    Library(String),
    /// There is no memory left for so many bytes.
    Exhausted(usize),
    /// These bytes do not lie within one allocation.
    Outside {
        /// The first byte's address.
        address: u64,
        /// How many bytes.
        bytes: usize,
    },
    /// No kernel has this name.
    UnknownKernel(String),
    /// The arguments are not those of the kernel.
    Arguments {
        /// Its name.
        kernel: String,
        /// The size in bytes of each argument it takes.
        expected: Vec<usize>,
        /// The size in bytes of each argument it was given.
        got: Vec<usize>,
    },
    /// The hardware would refuse this tensor map.
    TensorMap(String),
    /// What the checks found, a line each, with file and line of the kernel.
    Reported(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(why) => write!(f, "the kernels built for the CPU cannot be loaded: {why}"),
            Self::Exhausted(bytes) => write!(f, "no memory left for {bytes} bytes"),
            Self::Outside { address, bytes } => {
                write!(f, "{bytes} bytes at {address:#x} do not lie within one allocation")
            }
            Self::UnknownKernel(name) => write!(f, "no kernel is called `{name}` (is it exported?)"),
            Self::Arguments { kernel, expected, got } => {
                write!(f, "{kernel}: arguments of {got:?} bytes, the kernel takes {expected:?}")
            }
            Self::TensorMap(why) => write!(f, "tensor map: {why}"),
            Self::Reported(reports) => f.write_str(reports.trim_end()),
        }
    }
}

impl std::error::Error for Error {}
