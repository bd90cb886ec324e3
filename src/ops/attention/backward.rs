use std::ops::Range;

use super::super::split::dot;
use super::checks::Shape;
use super::lanes::{Tile, tiles};
use super::rows::{KeyRows, Pair};
use super::{CHUNK, Source, Span};
use crate::device::{BlockMut, Float, Host, Matrix, Write, grid_mut, product_near};
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
    /// Widened keys and values of the chunk in work [keys, D].
    room: [Vec<T::Acc>; 2],
    /// Probabilities, and gradients of the scores [keys, lanes].
    weights: [Vec<T::Acc>; 2],
}

/// A tile's inputs.
struct Inputs<F> {
    tile: Tile,
    /// Queries and gradients of out [rows, D].
    rows: [Vec<F>; 2],
    /// The same [D, lanes].
    columns: [Vec<F>; 2],
    /// Log of the softmax's sum [lanes].
    lse: Vec<F>,
    /// Σ dout out [lanes].
    delta: Vec<F>,
}

impl<'a, 'b, T: Element> Family<'a, 'b, T> {
    fn new(read: &'b Read<'b, T>, head: usize, members: Vec<Member<'a, T>>) -> Self {
        let mut rows = 0;
        let starts = members.iter().map(|member| {
            rows += member.blocks[0].rows.len();
            rows - member.blocks[0].rows.len()
        });
        let starts = starts.collect();
        let sums = [0, 1].map(|_| vec![T::Acc::ZERO; rows * read.shape.d]);
        Self { read, head, members, sums, starts, room: Default::default(), weights: Default::default() }
    }

    fn run(mut self) {
        let Shape { group, d, .. } = self.read.shape;
        for member in 0..self.members.len() {
            let index = self.members[member].span;
            let span = &self.read.spans[index];
            for part in tiles(span.queries.len(), group) {
                let (row, start) = (span.queries.start + part.start, span.start + part.start);
                let tile = Tile { row, queries: part.len(), start, group };
                let dq = self.tile(index, tile);
                tile.write(&dq, &mut self.members[member].blocks[0], part.start);
            }
        }
        for (member, start) in self.members.iter_mut().zip(self.starts) {
            let [_, dk, dv] = &mut member.blocks;
            for (sums, block) in self.sums.iter().zip([dk, dv]) {
                for (i, sums) in sums[start * d..].chunks_exact(d).take(block.rows.len()).enumerate() {
                    let stored = sums.iter().map(|x| T::store(*x + T::Acc::ZERO));
                    block.row(i).iter_mut().zip(stored).for_each(|(out, x)| *out = x);
                }
            }
        }
    }

    /// dq [rows, D] of a tile, whose part of dk and dv is added to the sums.
    fn tile(&mut self, span: usize, tile: Tile) -> Vec<T::Acc> {
        let (d, rows, lanes) = (self.read.shape.d, tile.rows(), tile.lanes());
        let inputs = self.read.inputs(tile, self.head);
        let mut dq = vec![T::Acc::ZERO; rows * d];
        let mut room = std::mem::take(&mut self.room);
        let keys = &self.read.rows[span];
        for from in (0..tile.keys()).step_by(CHUNK) {
            let positions = from..tile.keys().min(from + CHUNK);
            let [k_room, v_room] = &mut room;
            let k = keys.matrix(Pair::K, self.head, positions.clone(), k_room);
            let v = keys.matrix(Pair::V, self.head, positions.clone(), v_room);
            self.weigh([k, v], &inputs, from);
            let ds = Matrix::strided(&self.weights[1], [rows, positions.len()], [1, lanes]);
            product_near(ds, k, &mut BlockMut::new(&mut dq, [rows, d], d), Write::Add);
            self.collect(span, positions, &inputs);
        }
        self.room = room;
        dq
    }

    /// Fills both weights for a chunk's keys and values [keys, D], the first at position `first`.
    fn weigh(&mut self, keys: [Matrix<'_, T::Acc>; 2], inputs: &Inputs<T::Acc>, first: usize) {
        let (count, d) = keys[0].size();
        let lanes = inputs.tile.lanes();
        for ((weights, keys), columns) in self.weights.iter_mut().zip(keys).zip(&inputs.columns) {
            weights.resize(count * lanes, T::Acc::ZERO);
            let mut block = BlockMut::new(weights, [count, lanes], lanes);
            product_near(keys, Matrix::new(columns, d, lanes), &mut block, Write::Set);
        }
        let scale = T::Acc::ONE / T::Acc::from_f64(d as f64).sqrt();
        let [p, ds] = &mut self.weights;
        for (key, (p, ds)) in p.chunks_exact_mut(lanes).zip(ds.chunks_exact_mut(lanes)).enumerate() {
            let blind = inputs.tile.blind(first + key);
            p[..blind].fill(T::Acc::ZERO);
            ds[..blind].fill(T::Acc::ZERO);
            let rows = inputs.lse[blind..].iter().zip(&inputs.delta[blind..]);
            for ((p, ds), (lse, delta)) in p[blind..].iter_mut().zip(&mut ds[blind..]).zip(rows) {
                *p = (*p * scale - *lse).exp();
                *ds = *p * (*ds - *delta) * scale;
            }
        }
    }

    /// Adds a chunk's part to the sums of dk and dv, span by span of those that own its keys.
    fn collect(&mut self, span: usize, positions: Range<usize>, inputs: &Inputs<T::Acc>) {
        let (d, rows, lanes) = (self.read.shape.d, inputs.tile.rows(), inputs.tile.lanes());
        let [p, ds] = &self.weights;
        for run in &self.read.rows[span].runs {
            let keys = run.keys.start.max(positions.start)..run.keys.end.min(positions.end);
            if keys.is_empty() {
                continue;
            }
            let member =
                self.members.binary_search_by_key(&run.span, |m| m.span).expect("a family owns its keys");
            let to = (self.starts[member] + keys.start - run.keys.start) * d;
            let from = (keys.start - positions.start) * lanes;
            for ((sums, weights), rows_of) in self.sums.iter_mut().zip([ds, p]).zip(&inputs.rows) {
                let weights = Matrix::strided(&weights[from..], [keys.len(), rows], [lanes, 1]);
                let mut sums = BlockMut::new(&mut sums[to..], [keys.len(), d], d);
                product_near(weights, Matrix::new(rows_of, rows, d), &mut sums, Write::Add);
            }
        }
    }
}

impl<T: Element> Read<'_, T> {
    fn inputs(&self, tile: Tile, head: usize) -> Inputs<T::Acc> {
        let (shape, d) = (&self.shape, self.shape.d);
        let rows = [self.q, self.dout].map(|data| tile.gather(data, shape, head));
        let columns = rows.each_ref().map(|rows| tile.columns(rows, d));
        let out = tile.gather(self.out, shape, head);
        let [mut lse, mut delta] = [0, 1].map(|_| vec![T::Acc::ZERO; tile.lanes()]);
        for ((delta, dout), out) in delta.iter_mut().zip(rows[1].chunks_exact(d)).zip(out.chunks_exact(d)) {
            *delta = dot(dout, out);
        }
        for (i, lse) in lse.chunks_exact_mut(tile.group).take(tile.queries).enumerate() {
            let from = (tile.row + i) * shape.heads + head * tile.group;
            lse.copy_from_slice(&self.lse[from..from + tile.group]);
        }
        Inputs { tile, rows, columns, lse, delta }
    }
}
