use std::ops::Range;

use crate::device::DeviceError;
use crate::tensor::{DType, Dims};

pub use crate::device::Write;

/// A launch refused: what the operator expected and what it got.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// A shape does not fit.
    #[error("{op}: {tensor} is {got}, expected {expected}")]
    Shape {
        /// Operator.
        op: &'static str,
        /// Argument.
        tensor: &'static str,
        /// Its dims.
        got: Dims,
        /// What they should be.
        expected: Dims,
    },
    /// A dtype does not fit.
    #[error("{op}: {tensor} is {got:?}, expected {expected:?}")]
    Type {
        /// Operator.
        op: &'static str,
        /// Argument.
        tensor: &'static str,
        /// Its dtype.
        got: DType,
        /// What it should be.
        expected: DType,
    },
    /// The device refused, or work before this failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Anything else about an argument.
    #[error("{op}: {reason}")]
    Argument {
        /// Operator.
        op: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
}

/// Checks an argument's dims.
///
/// # Errors
/// When they differ in size from `expected` (names are for the message).
pub fn expect_dims(op: &'static str, tensor: &'static str, got: Dims, expected: Dims) -> Result<(), OpError> {
    let sizes = |d: &Dims| d.axes().iter().map(|a| a.1).collect::<Vec<_>>();
    if sizes(&got) == sizes(&expected) { Ok(()) } else { Err(OpError::Shape { op, tensor, got, expected }) }
}

/// Checks an argument's dtype.
///
/// # Errors
/// When it is another one.
pub fn expect_dtype(
    op: &'static str,
    tensor: &'static str,
    got: DType,
    expected: DType,
) -> Result<(), OpError> {
    if got == expected { Ok(()) } else { Err(OpError::Type { op, tensor, got, expected }) }
}

/// Checks ids that lie on the host against the number of things that they name.
///
/// # Errors
/// When one is too large.
pub(super) fn expect_below(op: &'static str, what: &str, ids: &[u32], count: usize) -> Result<(), OpError> {
    match ids.iter().position(|&id| id as usize >= count) {
        None => Ok(()),
        Some(n) => {
            let reason = format!("{what} {} at row {n}: there are {count}", ids[n]);
            Err(OpError::Argument { op, reason })
        }
    }
}

/// Row ranges of a packed batch inside which sums over tokens are taken; leaf sums are then added in ascending order. A batch
/// split between leaves therefore gives the same bits as the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves {
    bounds: Vec<usize>,
}

impl Leaves {
    /// From ascending bounds, the first 0, the last the number of packed tokens.
    pub fn new(bounds: Vec<usize>) -> Self {
        assert!(bounds.first() == Some(&0) && bounds.is_sorted(), "leaf bounds {bounds:?}");
        Self { bounds }
    }

    /// One leaf of `tokens`.
    pub fn one(tokens: usize) -> Self {
        Self::new(vec![0, tokens])
    }

    /// The same leaves over rows of which every token has `rows`: heads under a per-head operator.
    pub fn scaled(&self, rows: usize) -> Self {
        Self { bounds: self.bounds.iter().map(|bound| bound * rows).collect() }
    }

    /// Packed tokens in all leaves.
    pub fn tokens(&self) -> usize {
        self.bounds[self.bounds.len() - 1]
    }

    /// Row range of each leaf, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.bounds.windows(2).map(|w| w[0]..w[1])
    }
}
