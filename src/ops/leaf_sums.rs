//! Leaves as `kernels/leaf_sums.cuh` reads them: cut into chunks, which kernels sum side by side.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable, bytes_of};

use super::launch::Launch;
use super::{Leaves, OpError};
use crate::device::{Address, Grid};

/// Leaves of one table. More take more launches, in ascending order.
const LEAVES: usize = 127;

/// Some leaves: rows and chunks of each. The same struct in CUDA.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct LeafTable {
    leaves: u32,
    chunk_rows: u32,
    row: [u32; LEAVES + 1],
    chunk: [u32; LEAVES + 1],
}

const _: () = assert!(
    size_of::<LeafTable>() == 1032 && offset_of!(LeafTable, row) == 8 && offset_of!(LeafTable, chunk) == 520
);

impl LeafTable {
    /// All leaves, in tables of at most [`LEAVES`], each cut into chunks of `chunk_rows` rows.
    pub(super) fn all(launch: &Launch<'_>, leaves: &Leaves, chunk_rows: u32) -> Result<Vec<Self>, OpError> {
        launch.count("rows", leaves.tokens())?;
        let ranges: Vec<_> = leaves.ranges().collect();
        let table = |part: &[std::ops::Range<usize>]| {
            let mut table = Self { leaves: part.len() as u32, chunk_rows, ..Self::zeroed() };
            table.row[0] = part[0].start as u32;
            for (i, leaf) in part.iter().enumerate() {
                table.row[i + 1] = leaf.end as u32;
                table.chunk[i + 1] = table.chunk[i] + (leaf.len() as u32).div_ceil(chunk_rows);
            }
            table
        };
        Ok(ranges.chunks(LEAVES).map(table).collect())
    }

    /// Chunks of all its leaves.
    pub(super) fn chunks(&self) -> usize {
        self.chunk[self.leaves as usize] as usize
    }

    /// Memory for the chunks' sums of so many columns.
    pub(super) fn room(&self, launch: &Launch<'_>, columns: usize) -> Result<Address, OpError> {
        Ok(launch.cuda.scratch(self.chunks() * columns * size_of::<f32>())?)
    }

    /// total += the chunks' sums, by the operator's kernel of this name.
    pub(super) fn add(
        &self,
        launch: &Launch<'_>,
        kernel: &'static str,
        [sums, total]: [Address; 2],
        columns: u32,
    ) -> Result<(), OpError> {
        let arguments = [bytes_of(&sums), bytes_of(&total), bytes_of(&columns), bytes_of(self)];
        launch.run(kernel, Grid::row(columns.div_ceil(32) as usize, 1024), &arguments)
    }
}
