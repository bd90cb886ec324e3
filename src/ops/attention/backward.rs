use super::super::split::dot;
use super::checks::Shape;
use super::lanes::{Tile, batches, tiles};
use super::rows::{KeyRows, Pair};
use super::{Source, Span};
use crate::device::{BlockMut, Float, Host, Matrix, Start, grid_mut, product_near};
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
    host.run(batches(tasks, host.threads()), |batch| {
        let mut worker = Worker::new(read);
        batch.into_iter().for_each(|(head, members)| worker.family(head, members));
    });
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

/// A family in work, and the scratch memory that families share.
struct Worker<'b, T: Element> {
    read: &'b Read<'b, T>,
    head: usize,
    /// Spans of the family, ascending, and the row at which each one's sums start.
    starts: Vec<(usize, usize)>,
    /// dk and dv [rows, D] of every member, one after the other.
    sums: [Vec<T::Acc>; 2],
    tile: Tile,
    /// Queries and gradients of out [rows, D].
    rows: [Vec<T::Acc>; 2],
    /// The same [D, lanes].
    columns: [Vec<T::Acc>; 2],
    /// Log of the softmax's sum, and Σ dout out [lanes].
    lse: Vec<T::Acc>,
    delta: Vec<T::Acc>,
    /// [rows, D]
    dq: Vec<T::Acc>,
    /// Widened keys and values [keys, D].
    room: [Vec<T::Acc>; 2],
    /// Probabilities, and gradients of the scores [keys, lanes].
    weights: [Vec<T::Acc>; 2],
}

impl<'b, T: Element> Worker<'b, T> {
    fn new(read: &'b Read<'b, T>) -> Self {
        Self {
            read,
            head: 0,
            starts: Vec::new(),
            sums: Default::default(),
            tile: Tile::default(),
            rows: Default::default(),
            columns: Default::default(),
            lse: Vec::new(),
            delta: Vec::new(),
            dq: Vec::new(),
            room: Default::default(),
            weights: Default::default(),
        }
    }

    fn family(&mut self, head: usize, mut members: Vec<Member<'_, T>>) {
        let Shape { group, d, .. } = self.read.shape;
        self.head = head;
        self.starts.clear();
        let mut rows = 0;
        for member in &members {
            self.starts.push((member.span, rows));
            rows += member.blocks[0].rows.len();
        }
        for sums in &mut self.sums {
            sums.clear();
            sums.resize(rows * d, T::Acc::ZERO);
        }
        for member in &mut members {
            let span = &self.read.spans[member.span];
            for part in tiles(span.queries.len(), group) {
                let (row, start) = (span.queries.start + part.start, span.start + part.start);
                self.begin(Tile { row, queries: part.len(), start, group });
                self.keys(member.span);
                self.tile.write(&self.dq, &mut member.blocks[0], part.start);
            }
        }
        for (member, (_, start)) in members.iter_mut().zip(&self.starts) {
            let [_, dk, dv] = &mut member.blocks;
            for (sums, block) in self.sums.iter().zip([dk, dv]) {
                for (i, sums) in sums[start * d..].chunks_exact(d).take(block.rows.len()).enumerate() {
                    let stored = sums.iter().map(|x| T::store(*x + T::Acc::ZERO));
                    block.row(i).iter_mut().zip(stored).for_each(|(out, x)| *out = x);
                }
            }
        }
    }

    /// Fetches a tile's inputs.
    fn begin(&mut self, tile: Tile) {
        let (read, shape, d) = (self.read, &self.read.shape, self.read.shape.d);
        self.tile = tile;
        let [q, dout] = &mut self.rows;
        let out = &mut self.dq;
        for (data, rows) in [(read.q, &mut *q), (read.dout, &mut *dout), (read.out, &mut *out)] {
            tile.gather(data, shape, self.head, rows);
        }
        for (rows, columns) in self.rows.iter().zip(&mut self.columns) {
            tile.columns(rows, d, columns);
        }
        for lanes in [&mut self.lse, &mut self.delta] {
            lanes.clear();
            lanes.resize(tile.lanes(), T::Acc::ZERO);
        }
        let products = self.rows[1].chunks_exact(d).zip(self.dq.chunks_exact(d));
        for (delta, (dout, out)) in self.delta.iter_mut().zip(products) {
            *delta = dot(dout, out);
        }
        for (i, lse) in self.lse.chunks_exact_mut(tile.group).take(tile.queries).enumerate() {
            let from = (tile.row + i) * shape.heads + self.head * tile.group;
            lse.copy_from_slice(&read.lse[from..from + tile.group]);
        }
        self.dq.fill(T::Acc::ZERO);
    }

    /// Walks the keys that a tile of `span` sees: dq is filled in, its part of dk and dv added to the sums.
    fn keys(&mut self, span: usize) {
        let (d, rows, lanes) = (self.read.shape.d, self.tile.rows(), self.tile.lanes());
        let all = &self.read.rows[span];
        let mut room = std::mem::take(&mut self.room);
        for part in all.parts(0..self.tile.keys()) {
            let (count, [k_room, v_room]) = (part.positions.len(), &mut room);
            let k = all.matrix(Pair::K, self.head, &part, k_room);
            let v = all.matrix(Pair::V, self.head, &part, v_room);
            self.weigh([k, v], part.positions.start);
            let [p, ds] = &self.weights;
            let across = Matrix::strided(ds, [rows, count], [1, lanes]);
            product_near(across, k, &mut BlockMut::new(&mut self.dq, [rows, d], d), Start::Old);
            let owner = self.starts.binary_search_by_key(&part.run.span, |start| start.0);
            let (_, start) = self.starts[owner.expect("a family owns its keys")];
            let to = (start + part.positions.start - part.run.keys.start) * d;
            for ((sums, weights), rows_of) in self.sums.iter_mut().zip([ds, p]).zip(&self.rows) {
                let weights = Matrix::strided(weights, [count, rows], [lanes, 1]);
                let mut sums = BlockMut::new(&mut sums[to..], [count, d], d);
                product_near(weights, Matrix::new(rows_of, rows, d), &mut sums, Start::Old);
            }
        }
        self.room = room;
    }

    /// Fills both weights for keys and values [keys, D], the first at position `first`.
    fn weigh(&mut self, keys: [Matrix<'_, T::Acc>; 2], first: usize) {
        let ((count, d), lanes) = (keys[0].size(), self.tile.lanes());
        for ((weights, keys), columns) in self.weights.iter_mut().zip(keys).zip(&self.columns) {
            weights.resize(count * lanes, T::Acc::ZERO);
            let mut block = BlockMut::new(weights, [count, lanes], lanes);
            product_near(keys, Matrix::new(columns, d, lanes), &mut block, Start::Zero);
        }
        let scale = T::Acc::ONE / T::Acc::from_f64(d as f64).sqrt();
        let [p, ds] = &mut self.weights;
        for (key, (p, ds)) in p.chunks_exact_mut(lanes).zip(ds.chunks_exact_mut(lanes)).enumerate() {
            let blind = self.tile.blind(first + key);
            p[..blind].fill(T::Acc::ZERO);
            ds[..blind].fill(T::Acc::ZERO);
            let rows = self.lse[blind..].iter().zip(&self.delta[blind..]);
            for ((p, ds), (lse, delta)) in p[blind..].iter_mut().zip(&mut ds[blind..]).zip(rows) {
                *p = (*p * scale - *lse).exp();
                *ds = *p * (*ds - *delta) * scale;
            }
        }
    }
}
