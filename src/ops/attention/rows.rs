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
    /// The rows of one head at `positions` as [positions, D]: where they lie, if they are of the accumulator's type and equally
    /// spaced, else widened into `room`.
    pub(super) fn matrix<'s>(
        &'s self,
        pair: Pair,
        head: usize,
        positions: Range<usize>,
        room: &'s mut Vec<T::Acc>,
    ) -> Matrix<'s, T::Acc> {
        let (size, memory) = ([positions.len(), self.d], self.memory[pair as usize]);
        let within = |run: &&Run| run.keys.start <= positions.start && positions.end <= run.keys.end;
        if let Some(run) = self.runs.iter().find(within)
            && let Ok(memory) = bytemuck::try_cast_slice(memory)
            && T::DTYPE == T::DTYPE.accumulator()
        {
            return Matrix::strided(
                &memory[self.at(run, pair, head, positions.start)..],
                size,
                [run.stride, 1],
            );
        }
        room.clear();
        for run in &self.runs {
            for key in run.keys.start.max(positions.start)..run.keys.end.min(positions.end) {
                let from = self.at(run, pair, head, key);
                room.extend(memory[from..from + self.d].iter().map(|x| x.load()));
            }
        }
        Matrix::new(room, size[0], size[1])
    }

    fn at(&self, run: &Run, pair: Pair, head: usize, key: usize) -> usize {
        run.at[pair as usize] + (key - run.keys.start) * run.stride + head * self.head
    }
}
