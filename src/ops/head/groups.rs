//! Launches of `kernels/head.cu` where products run on warpgroups: blocks that stay, fed with boxes of x and w.

use bytemuck::{Pod, bytes_of};

use super::OpError;
use super::launch::{Operand, Scores};
use crate::device::{EncodedMap, Grid};
use crate::ops::boxes::{Side, Stored};
use crate::ops::launch::Launch;
use crate::ops::product::variant::{Extents, Variant};

/// Tiles of the scores.
pub(super) fn tiles(scores: &Scores, variant: Variant) -> usize {
    let [rows, columns] = [scores.a.extent, scores.b.extent].map(|extent| extent as usize);
    variant.tiles(Extents { rows, columns, depth: scores.depth as usize })
}

/// Runs a kernel over `items`; `arguments` hold `scores`.
pub(super) fn run<A: Pod>(
    launch: &Launch<'_>,
    (name, variant): (&'static str, Variant),
    items: usize,
    (scores, arguments): (&Scores, &A),
) -> Result<(), OpError> {
    if items == 0 {
        return Ok(());
    }
    let ([rows, columns], threads, shared) = variant.tile();
    let boxes = |operand: Operand, tile: usize| -> Result<EncodedMap, OpError> {
        let Operand { data: at, stride, extent } = operand;
        let side = Side { at, stride: stride as u64, extent: extent as u64, stored: Stored::Along };
        side.boxes(launch.op, launch.cuda, [scores.depth as usize, tile])
    };
    let (a, b) = (boxes(scores.a, rows)?, boxes(scores.b, columns)?);
    let blocks = items.min(launch.cuda.driver().multiprocessors() as usize);
    let grid = Grid { shared, ..Grid::row(blocks, threads) };
    launch.run(name, grid, &[bytes_of(arguments), bytes_of(&a), bytes_of(&b)])
}
