//! A query tile with its rows as vector lanes: row r is query r / G, head r % G of the group. Matrices over a tile are
//! [keys or dims, lanes], so that what happens to one row never depends on another.

use std::ops::Range;

use super::checks::Shape;
use crate::device::{BlockMut, Float};
use crate::tensor::Element;

/// Rows that a tile aims at.
const ROWS: usize = 64;

/// Some queries of a span under one key head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// First packed row.
    pub(super) row: usize,
    /// Queries.
    pub(super) queries: usize,
    /// Position of the first query.
    pub(super) start: usize,
    /// Query heads of the tile's key head.
    pub(super) group: usize,
}

/// Cuts a span of `queries` into tiles of equal size, up to one query; an empty span has none.
pub(super) fn tiles(queries: usize, group: usize) -> impl Iterator<Item = Range<usize>> {
    let count = (queries * group).div_ceil(ROWS).min(queries);
    (0..count).map(move |i| i * queries / count..(i + 1) * queries / count)
}

impl Tile {
    /// Query heads of all queries.
    pub(super) fn rows(&self) -> usize {
        self.queries * self.group
    }

    /// Rows filled up to whole vectors.
    pub(super) fn lanes(&self) -> usize {
        match self.rows() {
            rows @ ..=4 => rows,
            rows => rows.next_multiple_of(8),
        }
    }

    /// Positions that the last query sees.
    pub(super) fn keys(&self) -> usize {
        self.start + self.queries
    }

    /// Rows before the first one that sees the key at `position`.
    pub(super) fn blind(&self, position: usize) -> usize {
        position.saturating_sub(self.start) * self.group
    }

    /// One row after the other of `data` [N, H, D] under key head `head`.
    pub(super) fn heads<'a, T>(
        &self,
        data: &'a [T],
        shape: &Shape,
        head: usize,
    ) -> impl Iterator<Item = &'a [T]> {
        let (d, wide) = (shape.d, shape.heads * shape.d);
        let first = self.row * wide + head * self.group * d;
        let group = self.group;
        (0..self.queries).flat_map(move |i| data[first + i * wide..][..group * d].chunks_exact(d))
    }

    /// The tile's rows of `data` [N, H, D] as [D, lanes], zeros in the lanes beyond.
    pub(super) fn columns<T: Element>(&self, data: &[T], shape: &Shape, head: usize) -> Vec<T::Acc> {
        let lanes = self.lanes();
        let mut columns = vec![T::Acc::ZERO; shape.d * lanes];
        for (r, row) in self.heads(data, shape, head).enumerate() {
            columns.iter_mut().skip(r).step_by(lanes).zip(row).for_each(|(to, from)| *to = from.load());
        }
        columns
    }

    /// Writes `columns` [D, lanes] to the tile's block [queries, G D], negative zeros made positive.
    pub(super) fn write<T: Element>(
        &self,
        columns: &[T::Acc],
        d: usize,
        block: &mut BlockMut<'_, T>,
        first: usize,
    ) {
        let lanes = self.lanes();
        for i in 0..self.queries {
            for (g, out) in block.row(first + i).chunks_exact_mut(d).enumerate() {
                let column = columns.iter().skip(i * self.group + g).step_by(lanes);
                out.iter_mut().zip(column).for_each(|(out, x)| *out = T::store(*x + T::Acc::ZERO));
            }
        }
    }
}
