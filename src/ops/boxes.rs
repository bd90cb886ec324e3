//! Matrices as `kernels/warpgroup_product.cuh` fetches them: in boxes under the 128-byte swizzle.

use super::OpError;
use crate::device::{Address, Cuda, DeviceError, EncodedMap, Swizzle, TensorMap};

/// Elements of depth that are fetched at once, and a box's other side where it lies across: `product::STEP` of
/// `kernels/product.cuh`.
const STEP: u32 = 64;

/// Where an operand's rows run: along the depth, or across it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Along,
    Across,
}

/// An operand in bf16; `extent` is its other side than the depth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) at: Address,
    /// Elements from one row to the next.
    pub(super) stride: u64,
    pub(super) extent: u64,
    pub(super) stored: Stored,
}

impl Side {
    /// How the kernel asks for a step of `depth` of a tile that is `tile` wide.
    ///
    /// # Errors
    /// An operand that does not begin at a multiple of 16 bytes, or what the driver says.
    pub(super) fn boxes(
        self,
        op: &'static str,
        cuda: &Cuda,
        [depth, tile]: [usize; 2],
    ) -> Result<EncodedMap, OpError> {
        let Self { at, stride, extent, stored } = self;
        if !at.0.is_multiple_of(16) {
            let reason = format!("an operand begins at {:#x}: on this GPU at a multiple of 16 bytes", at.0);
            return Err(OpError::Argument { op, reason });
        }
        let tile = u32::try_from(tile).expect("a box is at most 256 wide");
        let (extent, shape) = match stored {
            Stored::Along => ([depth as u64, extent], [STEP, tile]),
            Stored::Across => ([extent, depth as u64], [STEP; 2]),
        };
        let map = TensorMap {
            at,
            extent: &extent,
            stride: &[2 * stride],
            shape: &shape,
            swizzle: Swizzle::Bytes128,
        };
        Ok(cuda.driver().tensor_map(&map).map_err(DeviceError::from)?)
    }
}
