use super::checks::Shape;
use super::lanes::{Tile, tiles};
use super::rows::{KeyRows, Pair};
use super::{CHUNK, Span};
use crate::device::{BlockMut, Float, Host, Matrix, Write, grid_mut, product_serial};
use crate::tensor::Element;

/// A tile for each (part of a span, key head), each with its own blocks of out and lse.
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
        let mut sums = Sums::new(tile, tile.columns(q, &shape, head), shape.d);
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
    /// Queries [D, lanes].
    q: Vec<F>,
    /// Largest score, sum and weighted values [D, lanes] of the chunks so far.
    all: Part<F>,
    /// The same of this chunk.
    chunk: Part<F>,
    /// Keys, then values of the chunk [keys, D].
    rows: Vec<F>,
    /// Scores, then weights of the chunk [keys, lanes].
    weights: Vec<F>,
}

/// What a run of keys adds up to.
struct Part<F> {
    m: Vec<F>,
    l: Vec<F>,
    o: Vec<F>,
}

impl<F: Float> Part<F> {
    fn new(lanes: usize, d: usize) -> Self {
        Self { m: vec![F::NEG_INFINITY; lanes], l: vec![F::ZERO; lanes], o: vec![F::ZERO; lanes * d] }
    }
}

impl<F: Element<Acc = F> + Float> Sums<F> {
    fn new(tile: Tile, q: Vec<F>, d: usize) -> Self {
        let scale = F::ONE / F::from_f64(d as f64).sqrt();
        let parts = [0, 1].map(|_| Part::new(tile.lanes(), d));
        let [all, chunk] = parts;
        Self { tile, d, scale, q, all, chunk, rows: Vec::new(), weights: Vec::new() }
    }

    /// Takes the keys at `positions`, one chunk, into the running sums.
    fn chunk<T: Element<Acc = F>>(
        &mut self,
        keys: &KeyRows<'_, T>,
        head: usize,
        positions: std::ops::Range<usize>,
    ) {
        let (lanes, count) = (self.tile.lanes(), positions.len());
        self.weights.resize(count * lanes, F::ZERO);
        keys.gather(Pair::K, head, positions.clone(), &mut self.rows);
        let k = Matrix::new(&self.rows, count, self.d);
        let mut scores = BlockMut::new(&mut self.weights, [count, lanes], lanes);
        product_serial(k, Matrix::new(&self.q, self.d, lanes), &mut scores, Write::Set);
        scale_and_mask(&mut self.weights, self.scale, self.tile, positions.start);
        weigh(&mut self.weights, &mut self.chunk.m, &mut self.chunk.l);
        keys.gather(Pair::V, head, positions.clone(), &mut self.rows);
        let v = Matrix::new(&self.rows, count, self.d).transposed();
        let mut o = BlockMut::new(&mut self.chunk.o, [self.d, lanes], lanes);
        product_serial(v, Matrix::new(&self.weights, count, lanes), &mut o, Write::Set);
        if positions.start == 0 {
            std::mem::swap(&mut self.all, &mut self.chunk);
        } else {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let (all, chunk) = (&mut self.all, &mut self.chunk);
        let lanes = all.m.len();
        for r in 0..lanes {
            let m = all.m[r].max(chunk.m[r]);
            let (old, new) = ((all.m[r] - m).exp(), (chunk.m[r] - m).exp());
            all.l[r] = all.l[r].fma(old, chunk.l[r] * new);
            // From here on the chunk's m and l hold the two factors.
            (all.m[r], chunk.m[r], chunk.l[r]) = (m, old, new);
        }
        for (all, o) in all.o.chunks_exact_mut(lanes).zip(chunk.o.chunks_exact(lanes)) {
            for r in 0..lanes {
                all[r] = all[r].fma(chunk.m[r], o[r] * chunk.l[r]);
            }
        }
    }

    fn finish<T: Element<Acc = F>>(mut self, out: &mut BlockMut<'_, T>, lse: &mut BlockMut<'_, F>) {
        let lanes = self.all.l.len();
        for o in self.all.o.chunks_exact_mut(lanes) {
            o.iter_mut().zip(&self.all.l).for_each(|(o, l)| *o /= *l);
        }
        self.tile.write(&self.all.o, self.d, out, 0);
        for i in 0..self.tile.queries {
            for (g, lse) in lse.row(i).iter_mut().enumerate() {
                let r = i * self.tile.group + g;
                *lse = self.all.m[r] + self.all.l[r].ln();
            }
        }
    }
}

/// Products [keys, lanes] become scores; keys that a row does not see become minus infinity.
fn scale_and_mask<F: Float>(scores: &mut [F], scale: F, tile: Tile, first: usize) {
    for (key, row) in scores.chunks_exact_mut(tile.lanes()).enumerate() {
        row.iter_mut().for_each(|s| *s *= scale);
        let blind = tile.blind(first + key).min(row.len());
        row[..blind].fill(F::NEG_INFINITY);
    }
}

/// Scores [keys, lanes] become weights e^(score - m); m and l [lanes] are set. A row that sees no key gets weights of 0.
fn weigh<F: Float>(scores: &mut [F], m: &mut [F], l: &mut [F]) {
    let lanes = m.len();
    m.fill(F::NEG_INFINITY);
    l.fill(F::ZERO);
    for row in scores.chunks_exact(lanes) {
        m.iter_mut().zip(row).for_each(|(m, s)| *m = if *s > *m { *s } else { *m });
    }
    for row in scores.chunks_exact_mut(lanes) {
        for ((s, m), l) in row.iter_mut().zip(&*m).zip(&mut *l) {
            let from = if *m == F::NEG_INFINITY { F::ZERO } else { *m };
            *s = (*s - from).exp();
            *l += *s;
        }
    }
}
