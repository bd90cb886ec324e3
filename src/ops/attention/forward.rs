use std::ops::Range;

use super::checks::Shape;
use super::lanes::{Tile, batches, tiles};
use super::rows::{KeyRows, Pair};
use super::weights::Weights;
use super::{CHUNK, Span};
use crate::device::{BlockMut, Float, Host, Start, grid_mut, product_near};
use crate::tensor::Element;

/// A task for each (tile of a span, key head), with its own blocks of out and lse.
pub(super) fn host<T: Element>(
    host: &Host,
    (q, shape): (&[T], Shape),
    (spans, keys): (&[Span], &[KeyRows<'_, T>]),
    (out, lse): (&mut [T], &mut [T::Acc]),
) {
    let mut bounds = vec![0];
    let mut parts = Vec::with_capacity(spans.len());
    for (span, keys) in spans.iter().zip(keys) {
        for part in tiles(span.queries.len(), shape.group) {
            let (row, start) = (span.queries.start + part.start, span.start + part.start);
            parts.push((Tile { row, queries: part.len(), start, group: shape.group }, keys));
            bounds.push(row + part.len());
        }
    }
    let columns = |width| (0..=shape.kv_heads).map(|head| head * width).collect::<Vec<_>>();
    let outs = grid_mut(out, shape.heads * shape.d, &bounds, &columns(shape.group * shape.d));
    let lses = grid_mut(lse, shape.heads, &bounds, &columns(shape.group));
    let parts = parts.into_iter().flat_map(|part| (0..shape.kv_heads).map(move |head| (part, head)));
    let tasks: Vec<_> = parts.zip(outs.into_iter().zip(lses)).collect();
    host.run(batches(tasks, host.threads()), |batch| {
        let mut sums = Sums::new(shape.d);
        for (((tile, keys), head), (mut out, mut lse)) in batch {
            sums.begin(tile, |rows| tile.gather(q, &shape, head, rows));
            for from in (0..tile.keys()).step_by(CHUNK) {
                sums.chunk(tile, (keys, head), from..tile.keys().min(from + CHUNK));
            }
            sums.finish(tile, &mut out, &mut lse);
        }
    });
}

/// The running (M, L, O) of a tile, and the chunk in work.
struct Sums<F> {
    d: usize,
    scale: F,
    weights: Weights<F>,
    /// Of the chunks so far.
    all: Part<F>,
    /// Of this chunk.
    chunk: Part<F>,
    /// Widened keys or values [keys, D].
    room: Vec<F>,
}

/// What a run of keys adds up to: for each lane the largest score and the sum of weights, and the weighted values [rows, D].
#[derive(Default)]
pub(super) struct Part<F> {
    pub(super) m: Vec<F>,
    pub(super) l: Vec<F>,
    o: Vec<F>,
}

impl<F: Float> Part<F> {
    fn resize(&mut self, lanes: usize, len: usize) {
        self.m.resize(lanes, F::ZERO);
        self.l.resize(lanes, F::ZERO);
        self.o.resize(len, F::ZERO);
    }
}

impl<F: Element<Acc = F> + Float> Sums<F> {
    fn new(d: usize) -> Self {
        let scale = F::ONE / F::from_f64(d as f64).sqrt();
        let [all, chunk] = Default::default();
        Self { d, scale, weights: Weights::default(), all, chunk, room: Vec::new() }
    }

    /// Starts a tile, whose queries [rows, D] `gather` fetches.
    fn begin(&mut self, tile: Tile, gather: impl FnOnce(&mut Vec<F>)) {
        gather(&mut self.room);
        self.weights.begin(tile, &self.room, self.d);
        for part in [&mut self.all, &mut self.chunk] {
            part.resize(tile.lanes(), tile.rows() * self.d);
        }
    }

    /// Takes the keys at `positions`, one chunk, into the running sums.
    fn chunk<T: Element<Acc = F>>(
        &mut self,
        tile: Tile,
        (keys, head): (&KeyRows<'_, T>, usize),
        positions: Range<usize>,
    ) {
        let (first, rows) = (positions.start, tile.rows());
        self.weights.resize(positions.len());
        for part in keys.parts(positions.clone()) {
            let k = keys.matrix(Pair::K, head, &part, &mut self.room);
            self.weights.score(k, part.positions.start - first);
        }
        self.weights.weigh(self.scale, first, &mut self.chunk);
        for part in keys.parts(positions) {
            let v = keys.matrix(Pair::V, head, &part, &mut self.room);
            let at = part.positions.start - first..part.positions.end - first;
            let start = if at.start == 0 { Start::Zero } else { Start::Old };
            let mut o = BlockMut::new(&mut self.chunk.o, [rows, self.d], self.d);
            product_near(self.weights.rows().part(0..rows, at), v, &mut o, start);
        }
        if first == 0 {
            std::mem::swap(&mut self.all, &mut self.chunk);
        } else {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let (all, chunk) = (&mut self.all, &mut self.chunk);
        let rows = all.o.chunks_exact_mut(self.d).zip(chunk.o.chunks_exact(self.d));
        for (r, (all_o, chunk_o)) in rows.enumerate() {
            let m = all.m[r].max(chunk.m[r]);
            let (old, new) = ((all.m[r] - m).exp(), (chunk.m[r] - m).exp());
            all.m[r] = m;
            all.l[r] = all.l[r].fma(old, chunk.l[r] * new);
            all_o.iter_mut().zip(chunk_o).for_each(|(all, o)| *all = all.fma(old, *o * new));
        }
    }

    fn finish<T: Element<Acc = F>>(
        &mut self,
        tile: Tile,
        out: &mut BlockMut<'_, T>,
        lse: &mut BlockMut<'_, F>,
    ) {
        for (o, l) in self.all.o.chunks_exact_mut(self.d).zip(&self.all.l) {
            o.iter_mut().for_each(|o| *o /= *l);
        }
        tile.write(&self.all.o, out, 0);
        for i in 0..tile.queries {
            for (g, lse) in lse.row(i).iter_mut().enumerate() {
                let r = i * tile.group + g;
                *lse = self.all.m[r] + self.all.l[r].ln();
            }
        }
    }
}
