//! A query tile with its rows as vector lanes: row r is query r / G, head r % G of the group. Scores over a tile are
//! [keys, lanes], so that what happens to one row never depends on another.

use std::ops::Range;

use super::checks::Shape;
use crate::device::{BlockMut, Float};
use crate::tensor::Element;

/// Rows that a tile aims at.
const ROWS: usize = 64;

/// Lanes come in whole registers of this many.
pub(super) const REGISTER: usize = 16;

/// Some queries of a span under one key head.
#[derive(Clone, Copy, Debug, Default)]
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

    /// Rows filled up to whole registers.
    pub(super) fn lanes(&self) -> usize {
        self.rows().next_multiple_of(REGISTER)
    }

    /// Positions that the last query sees.
    pub(super) fn keys(&self) -> usize {
        self.start + self.queries
    }

    /// Positions that row `r` sees.
    pub(super) fn seen(&self, r: usize) -> usize {
        self.start + r / self.group + 1
    }

    /// Rows before the first one that sees the key at `position`.
    pub(super) fn blind(&self, position: usize) -> usize {
        position.saturating_sub(self.start).min(self.queries) * self.group
    }

    /// The tile's rows of `data` [N, H, D] under key head `head`, as [rows, D].
    pub(super) fn gather<T: Element>(&self, data: &[T], shape: &Shape, head: usize, rows: &mut Vec<T::Acc>) {
        let (part, wide) = (self.group * shape.d, shape.heads * shape.d);
        rows.clear();
        for i in 0..self.queries {
            let from = (self.row + i) * wide + head * part;
            rows.extend(data[from..from + part].iter().map(|x| x.load()));
        }
    }

    /// [rows, D] turned to [D, lanes], zeros in the lanes beyond the rows.
    pub(super) fn columns<F: Float>(&self, rows: &[F], d: usize, columns: &mut Vec<F>) {
        let lanes = self.lanes();
        columns.clear();
        columns.resize(d * lanes, F::ZERO);
        for (first, block) in (0..).step_by(REGISTER).zip(rows.chunks(REGISTER * d)) {
            for (i, column) in columns.chunks_exact_mut(lanes).enumerate() {
                let column = &mut column[first..first + REGISTER];
                column.iter_mut().zip(block[i..].iter().step_by(d)).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Writes `rows` [rows, D] to `block` [queries, G D] from its row `first` on, negative zeros made positive.
    pub(super) fn write<T: Element>(&self, rows: &[T::Acc], block: &mut BlockMut<'_, T>, first: usize) {
        let part = rows.len() / self.queries;
        for (i, rows) in rows.chunks_exact(part).enumerate() {
            let stored = rows.iter().map(|x| T::store(*x + T::Acc::ZERO));
            block.row(first + i).iter_mut().zip(stored).for_each(|(out, x)| *out = x);
        }
    }
}

/// `tasks` in batches that share their scratch memory, about eight to a thread.
pub(super) fn batches<T>(tasks: Vec<T>, threads: usize) -> Vec<Vec<T>> {
    let len = tasks.len().div_ceil(8 * threads).max(1);
    let mut tasks = tasks.into_iter();
    std::iter::from_fn(|| {
        Some(tasks.by_ref().take(len).collect::<Vec<_>>()).filter(|batch| !batch.is_empty())
    })
    .collect()
}
