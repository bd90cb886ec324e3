use std::ops::Range;

use super::super::kv_append::{BLOCK, PoolShape};
use super::checks::Shape;
use super::{Keys, Source, Span};
use crate::device::Matrix;
use crate::tensor::Element;

/// Keys or values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pair {
    K,
    V,
}

/// Neighbouring positions whose rows are equally spaced in memory.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Positions.
    pub(super) keys: Range<usize>,
    /// The span that owns the rows, where they are packed.
    pub(super) span: usize,
    /// Element at which the first row of head 0 starts, in K's and in V's memory.
    at: [usize; 2],
    /// From one row to the next.
    stride: usize,
}

/// Some positions of one run.
#[derive(Clone, Debug)]
pub(super) struct KeyPart<'a> {
    pub(super) positions: Range<usize>,
    pub(super) run: &'a Run,
}

/// The keys and values that a span sees, by position.
#[derive(Debug)]
pub(super) struct KeyRows<'a, T> {
    memory: [&'a [T]; 2],
    /// Ascending, without gaps, from position 0.
    pub(super) runs: Vec<Run>,
    /// From one head to the next.
    head: usize,
    d: usize,
}

/// What every span sees.
pub(super) fn of_spans<'a, T: Element>(keys: Keys<'a>, spans: &[Span], shape: &Shape) -> Vec<KeyRows<'a, T>> {
    let mut all: Vec<KeyRows<'a, T>> = Vec::with_capacity(spans.len());
    for (index, span) in spans.iter().enumerate() {
        let rows = match (keys, &span.source) {
            (Keys::Packed { k, v }, Source::Packed { parent }) => {
                let mut runs = parent.map_or_else(Vec::new, |parent| all[parent].runs.clone());
                let stride = shape.kv_heads * shape.d;
                let keys = span.start..span.start + span.queries.len();
                runs.push(Run { keys, span: index, at: [span.queries.start * stride; 2], stride });
                KeyRows { memory: [k.host(), v.host()], runs, head: shape.d, d: shape.d }
            }
            (Keys::Paged { pool, layer }, Source::Paged { blocks }) => {
                let pool_shape =
                    PoolShape::of("attention", pool.dims(), layer).expect("checked with the spans");
                let end = span.start + span.queries.len();
                let runs = (0..end).step_by(BLOCK).zip(blocks.iter()).map(|(from, &block)| Run {
                    keys: from..end.min(from + BLOCK),
                    span: index,
                    at: [0, 1].map(|pair| pool_shape.offset(block as usize, pair)),
                    stride: shape.d,
                });
                let memory = pool.host();
                KeyRows { memory: [memory; 2], runs: runs.collect(), head: BLOCK * shape.d, d: shape.d }
            }
            _ => unreachable!("sources were checked against the keys"),
        };
        all.push(rows);
    }
    all
}

impl<T: Element> KeyRows<'_, T> {
    /// Cuts `positions` into parts of at most a block, each inside one run.
    pub(super) fn parts(&self, positions: Range<usize>) -> impl Iterator<Item = KeyPart<'_>> {
        let inside = move |run: &Run| {
            run.keys.start.max(positions.start)..run.keys.end.min(positions.end).max(positions.start)
        };
        self.runs.iter().flat_map(move |run| {
            let keys = inside(run);
            let end = keys.end;
            keys.step_by(BLOCK).map(move |from| KeyPart { positions: from..end.min(from + BLOCK), run })
        })
    }

    /// The rows of one head as [keys, D]: where they lie if they are of the accumulator's type, else widened into `room`.
    pub(super) fn matrix<'s>(
        &'s self,
        pair: Pair,
        head: usize,
        keys: &KeyPart<'_>,
        room: &'s mut Vec<T::Acc>,
    ) -> Matrix<'s, T::Acc> {
        let (count, run) = (keys.positions.len(), keys.run);
        let from =
            run.at[pair as usize] + (keys.positions.start - run.keys.start) * run.stride + head * self.head;
        let memory = &self.memory[pair as usize][from..];
        if T::DTYPE == T::DTYPE.accumulator()
            && let Ok(memory) = bytemuck::try_cast_slice(memory)
        {
            return Matrix::strided(memory, [count, self.d], [run.stride, 1]);
        }
        room.clear();
        for row in memory.chunks(run.stride).take(count) {
            room.extend(row[..self.d].iter().map(|x| x.load()));
        }
        Matrix::new(room, count, self.d)
    }
}
