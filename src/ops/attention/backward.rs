use std::ops::Range;

use super::checks::Shape;
use super::lanes::{Tile, tiles};
use super::rows::{KeyRows, Pair};
use super::{CHUNK, Source, Span};
use crate::device::{BlockMut, Float, Host, Matrix, Write, grid_mut, product_serial};
use crate::tensor::Element;

/// What the backward pass reads, on the host.
pub(super) struct Read<'a, T: Element> {
    pub(super) q: &'a [T],
    pub(super) dout: &'a [T],
    pub(super) out: &'a [T],
    pub(super) lse: &'a [T::Acc],
    pub(super) spans: &'a [Span],
    pub(super) rows: &'a [KeyRows<'a, T>],
    pub(super) shape: Shape,
}

/// A span of a family and the blocks of dq, dk and dv that are its own.
struct Member<'a, T> {
    span: usize,
    blocks: [BlockMut<'a, T>; 3],
}

/// A task for each (family, key head): spans that share keys stay on one thread, which meets them in ascending order.
pub(super) fn host<T: Element>(host: &Host, read: &Read<'_, T>, gradients: [&mut [T]; 3]) {
    let Shape { heads, kv_heads, group, d, .. } = read.shape;
    let bounds: Vec<usize> = std::iter::once(0).chain(read.spans.iter().map(|s| s.queries.end)).collect();
    let cut = |data, heads: usize, group: usize| {
        let columns: Vec<usize> = (0..=kv_heads).map(|head| head * group * d).collect();
        grid_mut(data, heads * d, &bounds, &columns).into_iter()
    };
    let [dq, dk, dv] = gradients;
    let blocks = cut(dq, heads, group).zip(cut(dk, kv_heads, 1)).zip(cut(dv, kv_heads, 1));
    let (family, families) = families(read.spans);
    let mut tasks: Vec<_> =
        (0..families * kv_heads).map(|task| (task % kv_heads, Vec::<Member<'_, T>>::new())).collect();
    for (i, ((dq, dk), dv)) in blocks.enumerate() {
        let (span, head) = (i / kv_heads, i % kv_heads);
        tasks[family[span] * kv_heads + head].1.push(Member { span, blocks: [dq, dk, dv] });
    }
    host.run(tasks, |(head, members)| Family::new(read, head, members).run());
}

/// The family of each span, and how many there are.
fn families(spans: &[Span]) -> (Vec<usize>, usize) {
    let (mut family, mut count) = (Vec::with_capacity(spans.len()), 0);
    for span in spans {
        match span.source {
            Source::Packed { parent: Some(parent) } => family.push(family[parent]),
            _ => {
                family.push(count);
                count += 1;
            }
        }
    }
    (family, count)
}

/// One task.
struct Family<'a, 'b, T: Element> {
    read: &'b Read<'b, T>,
    head: usize,
    members: Vec<Member<'a, T>>,
    /// dk and dv [rows, D] of every member, one after the other.
    sums: [Vec<T::Acc>; 2],
    /// Row at which each member's sums start.
    starts: Vec<usize>,
    keys: Vec<T::Acc>,
    values: Vec<T::Acc>,
    /// Probabilities, then gradients of the scores [keys, lanes].
    weights: [Vec<T::Acc>; 2],
    /// One chunk's part of dk or dv.
    part: Vec<T::Acc>,
}

/// A tile's inputs.
struct Inputs<F> {
    /// [D, lanes]
    q: Vec<F>,
    /// [D, lanes]
    dout: Vec<F>,
    /// [rows, D]
    q_rows: Vec<F>,
    /// [rows, D]
    dout_rows: Vec<F>,
    /// Log of the softmax's sum [lanes].
    lse: Vec<F>,
    /// Σ dout out [lanes].
    delta: Vec<F>,
}

impl<'a, 'b, T: Element> Family<'a, 'b, T> {
    fn new(read: &'b Read<'b, T>, head: usize, members: Vec<Member<'a, T>>) -> Self {
        let mut rows = 0;
        let starts = members.iter().map(|member| {
            rows += read.spans[member.span].queries.len();
            rows - read.spans[member.span].queries.len()
        });
        let starts = starts.collect();
        let sums = [0, 1].map(|_| vec![T::Acc::ZERO; rows * read.shape.d]);
        let (keys, values, part) = (Vec::new(), Vec::new(), Vec::new());
        Self { read, head, members, sums, starts, keys, values, weights: [Vec::new(), Vec::new()], part }
    }

    fn run(mut self) {
        for member in 0..self.members.len() {
            let span = &self.read.spans[self.members[member].span];
            for part in tiles(span.queries.len(), self.read.shape.group) {
                let (row, start) = (span.queries.start + part.start, span.start + part.start);
                let tile = Tile { row, queries: part.len(), start, group: self.read.shape.group };
                let dq = self.tile(self.members[member].span, tile);
                tile.write(&dq, self.read.shape.d, &mut self.members[member].blocks[0], part.start);
            }
        }
        let d = self.read.shape.d;
        for (member, start) in self.members.iter_mut().zip(&self.starts) {
            let [_, dk, dv] = &mut member.blocks;
            for (sums, block) in self.sums.iter().zip([dk, dv]) {
                for (i, sums) in sums[start * d..].chunks_exact(d).take(block.rows.len()).enumerate() {
                    let stored = sums.iter().map(|x| T::store(*x + T::Acc::ZERO));
                    block.row(i).iter_mut().zip(stored).for_each(|(out, x)| *out = x);
                }
            }
        }
    }

    /// dq [D, lanes] of a tile, whose part of dk and dv is added to the sums.
    fn tile(&mut self, span: usize, tile: Tile) -> Vec<T::Acc> {
        let (d, lanes) = (self.read.shape.d, tile.lanes());
        let inputs = self.read.inputs(tile, self.head);
        let mut dq = vec![T::Acc::ZERO; d * lanes];
        for from in (0..tile.keys()).step_by(CHUNK) {
            let positions = from..tile.keys().min(from + CHUNK);
            self.scores(span, tile, &inputs, positions.clone());
            let k = Matrix::new(&self.keys, positions.len(), d).transposed();
            let ds = Matrix::new(&self.weights[1], positions.len(), lanes);
            product_serial(k, ds, &mut BlockMut::new(&mut dq, [d, lanes], lanes), Write::Add);
            self.collect(span, positions.clone(), (0, &inputs.q_rows), tile);
            self.collect(span, positions, (1, &inputs.dout_rows), tile);
        }
        dq
    }

    /// Fills keys, values and both weights of a chunk.
    fn scores(&mut self, span: usize, tile: Tile, inputs: &Inputs<T::Acc>, positions: Range<usize>) {
        let (d, lanes, count) = (self.read.shape.d, tile.lanes(), positions.len());
        let rows = &self.read.rows[span];
        rows.gather(Pair::K, self.head, positions.clone(), &mut self.keys);
        rows.gather(Pair::V, self.head, positions.clone(), &mut self.values);
        let [p, ds] = &mut self.weights;
        for (weights, rows, columns) in
            [(&mut *p, &self.keys, &inputs.q), (&mut *ds, &self.values, &inputs.dout)]
        {
            weights.resize(count * lanes, T::Acc::ZERO);
            let mut block = BlockMut::new(weights, [count, lanes], lanes);
            let (a, b) = (Matrix::new(rows, count, d), Matrix::new(columns, d, lanes));
            product_serial(a, b, &mut block, Write::Set);
        }
        let scale = T::Acc::ONE / T::Acc::from_f64(d as f64).sqrt();
        let rows = p.chunks_exact_mut(lanes).zip(ds.chunks_exact_mut(lanes));
        for (key, (p, ds)) in rows.enumerate() {
            for r in 0..lanes {
                p[r] = (p[r] * scale - inputs.lse[r]).exp();
            }
            let blind = tile.blind(positions.start + key).min(lanes);
            p[..blind].fill(T::Acc::ZERO);
            for r in 0..lanes {
                ds[r] = p[r] * (ds[r] - inputs.delta[r]) * scale;
            }
        }
    }

    /// Adds weightsᵀ rows of a chunk to the sums of dk (`which` = 0) or dv (1).
    fn collect(
        &mut self,
        span: usize,
        positions: Range<usize>,
        (which, rows): (usize, &[T::Acc]),
        tile: Tile,
    ) {
        let (d, count) = (self.read.shape.d, positions.len());
        self.part.resize(count * d, T::Acc::ZERO);
        let weights = Matrix::strided(&self.weights[1 - which], [count, tile.rows()], [tile.lanes(), 1]);
        let mut part = BlockMut::new(&mut self.part, [count, d], d);
        product_serial(weights, Matrix::new(rows, tile.rows(), d), &mut part, Write::Set);
        for run in &self.read.rows[span].runs {
            let keys = run.keys.start.max(positions.start)..run.keys.end.min(positions.end);
            if keys.is_empty() {
                continue;
            }
            let member =
                self.members.iter().position(|m| m.span == run.span).expect("a span's family owns its keys");
            let to = (self.starts[member] + keys.start - run.keys.start) * d;
            let from = (keys.start - positions.start) * d;
            let sums = &mut self.sums[which][to..to + keys.len() * d];
            sums.iter_mut().zip(&self.part[from..]).for_each(|(sum, x)| *sum += *x);
        }
    }
}

impl<T: Element> Read<'_, T> {
    fn inputs(&self, tile: Tile, head: usize) -> Inputs<T::Acc> {
        let shape = &self.shape;
        let [q, dout, out] = [self.q, self.dout, self.out].map(|data| tile.columns(data, shape, head));
        let [q_rows, dout_rows] = [self.q, self.dout]
            .map(|data| tile.heads(data, shape, head).flatten().map(|x| x.load()).collect());
        let mut delta = vec![T::Acc::ZERO; tile.lanes()];
        for (dout, out) in dout.chunks_exact(tile.lanes()).zip(out.chunks_exact(tile.lanes())) {
            delta.iter_mut().zip(dout.iter().zip(out)).for_each(|(sum, (a, b))| *sum = a.fma(*b, *sum));
        }
        let mut lse = vec![T::Acc::ZERO; tile.lanes()];
        for i in 0..tile.queries {
            let from = (tile.row + i) * shape.heads + head * tile.group;
            lse[i * tile.group..][..tile.group].copy_from_slice(&self.lse[from..][..tile.group]);
        }
        Inputs { q, dout, q_rows, dout_rows, lse, delta }
    }
}
