//! What launches on CUDA have in common: kernels by name, rows in pieces of 16 bytes, sizes that a kernel can count.

use bytemuck::{Pod, bytes_of};

use super::{OpError, expect_dtype};
use crate::device::{Address, Cuda, Grid, Kernel};
use crate::tensor::{DType, View, ViewMut};

/// Bytes of a piece: what a thread loads or stores at once.
pub(super) const PIECE: usize = 16;

/// The launches of one operator: its name for errors, its image, its device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch<'a> {
    /// Operator.
    pub(super) op: &'static str,
    /// `kernels/<stem>.cu`.
    pub(super) stem: &'static str,
    /// Where it runs.
    pub(super) cuda: &'a Cuda,
}

impl Launch<'_> {
    /// Runs a kernel; does nothing where there is no block to run.
    pub(super) fn run(&self, name: &'static str, grid: Grid, arguments: &[&[u8]]) -> Result<(), OpError> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        Ok(self.cuda.launch(Kernel { stem: self.stem, name }, grid, arguments)?)
    }

    /// Runs a kernel that takes one struct.
    pub(super) fn run_with<A: Pod>(
        &self,
        name: &'static str,
        grid: Grid,
        arguments: &A,
    ) -> Result<(), OpError> {
        self.run(name, grid, &[bytes_of(arguments)])
    }

    /// A count as kernels take it.
    pub(super) fn count(&self, what: &str, count: usize) -> Result<u32, OpError> {
        u32::try_from(count).map_err(|_| self.refuse(format!("{count} {what}: kernels count to 2^32")))
    }

    /// Pieces of a row. The whole must begin at one.
    pub(super) fn pieces_of_row(&self, tensor: &'static str, view: View<'_>) -> Result<u32, OpError> {
        let bytes = view.dims().row_len() * view.dtype().size();
        if !bytes.is_multiple_of(PIECE) {
            let reason =
                format!("{tensor} is {}: on CUDA rows are whole pieces of {PIECE} bytes", view.dims());
            return Err(self.refuse(reason));
        }
        self.start(tensor, view)?;
        self.count("pieces of a row", bytes / PIECE)
    }

    /// Pieces of a whole tensor, which begins at one.
    pub(super) fn pieces(&self, tensor: &'static str, view: View<'_>) -> Result<u64, OpError> {
        if !view.bytes().is_multiple_of(PIECE) {
            let reason = format!("{tensor} is {}: on CUDA it is whole pieces of {PIECE} bytes", view.dims());
            return Err(self.refuse(reason));
        }
        self.start(tensor, view)?;
        Ok((view.bytes() / PIECE) as u64)
    }

    /// Row i of `to` = row ids\[i\] of `from`.
    pub(super) fn gather(
        &self,
        name: &'static str,
        from: View<'_>,
        ids: View<'_>,
        to: ViewMut<'_>,
    ) -> Result<(), OpError> {
        let pieces = self.pieces_of_row("from", from)?;
        let [count, rows] = [to.dims().rows(), from.dims().rows()];
        let (count, rows) = (self.count("rows", count)?, self.count("rows", rows)?);
        let (from, ids, to) = (from.address(), ids.address(), self.start("to", to.view())?);
        let arguments = [bytes_of(&from), bytes_of(&ids), bytes_of(&to), bytes_of(&rows), bytes_of(&pieces)];
        let grid = Grid { blocks: [count, pieces.div_ceil(512), 1], threads: 128, shared: 0 };
        self.run(name, grid, &arguments)
    }

    /// Where a tensor of any length begins: at a piece.
    pub(super) fn start(&self, tensor: &'static str, view: View<'_>) -> Result<Address, OpError> {
        let at = view.address();
        let reason = || format!("{tensor} does not begin at a multiple of {PIECE} bytes");
        if at.0.is_multiple_of(PIECE as u64) { Ok(at) } else { Err(self.refuse(reason())) }
    }

    /// Activations, weights and their gradients are bf16 on CUDA.
    pub(super) fn expect_bf16(&self, tensor: &'static str, view: View<'_>) -> Result<(), OpError> {
        expect_dtype(self.op, tensor, view.dtype(), DType::BF16)
    }

    /// An argument that cannot be taken.
    pub(super) fn refuse(&self, reason: String) -> OpError {
        OpError::Argument { op: self.op, reason }
    }
}
