use std::ops::Range;

use super::checks::Shape;
use super::lanes::{Tile, tiles};
use super::rows::{KeyRows, Pair};
use super::weights::Weights;
use super::{CHUNK, Span};
use crate::device::{BlockMut, Float, Host, Write, grid_mut, product_near};
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
    host.run(tasks, |(((tile, keys), head), (mut out, mut lse))| {
        let mut sums = Sums::new(tile, tile.gather(q, &shape, head), shape.d);
        for from in (0..tile.keys()).step_by(CHUNK) {
            sums.chunk(keys, head, from..tile.keys().min(from + CHUNK));
        }
        sums.finish(&mut out, &mut lse);
    });
}

/// The running (M, L, O) of a tile, and the chunk in work.
struct Sums<F> {
    tile: Tile,
    d: usize,
    scale: F,
    weights: Weights<F>,
    /// Of the chunks so far.
    all: Part<F>,
    /// Of this chunk.
    chunk: Part<F>,
    /// Widened keys, then values of the chunk [keys, D].
    room: Vec<F>,
}

/// What a run of keys adds up to: for each row the largest score, the sum of weights, and the weighted values [rows, D].
pub(super) struct Part<F> {
    pub(super) m: Vec<F>,
    pub(super) l: Vec<F>,
    o: Vec<F>,
}

impl<F: Float> Part<F> {
    fn new(lanes: usize, rows: usize, d: usize) -> Self {
        Self { m: vec![F::NEG_INFINITY; lanes], l: vec![F::ZERO; lanes], o: vec![F::ZERO; rows * d] }
    }
}

impl<F: Element<Acc = F> + Float> Sums<F> {
    fn new(tile: Tile, q: Vec<F>, d: usize) -> Self {
        let [all, chunk] = [0, 1].map(|_| Part::new(tile.lanes(), tile.rows(), d));
        let scale = F::ONE / F::from_f64(d as f64).sqrt();
        Self { tile, d, scale, weights: Weights::new(tile, q, d), all, chunk, room: Vec::new() }
    }

    /// Takes the keys at `positions`, one chunk, into the running sums.
    fn chunk<T: Element<Acc = F>>(&mut self, keys: &KeyRows<'_, T>, head: usize, positions: Range<usize>) {
        let first = positions.start;
        let k = keys.matrix(Pair::K, head, positions.clone(), &mut self.room);
        self.weights.score(k, self.scale, first);
        self.weights.weigh(&mut self.chunk);
        let v = keys.matrix(Pair::V, head, positions, &mut self.room);
        let rows = self.tile.rows();
        let mut o = BlockMut::new(&mut self.chunk.o, [rows, self.d], self.d);
        product_near(self.weights.rows(), v, &mut o, Write::Set);
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

    fn finish<T: Element<Acc = F>>(mut self, out: &mut BlockMut<'_, T>, lse: &mut BlockMut<'_, F>) {
        for (o, l) in self.all.o.chunks_exact_mut(self.d).zip(&self.all.l) {
            o.iter_mut().for_each(|o| *o /= *l);
        }
        self.tile.write(&self.all.o, out, 0);
        for i in 0..self.tile.queries {
            for (g, lse) in lse.row(i).iter_mut().enumerate() {
                let r = i * self.tile.group + g;
                *lse = self.all.m[r] + self.all.l[r].ln();
            }
        }
    }
}
