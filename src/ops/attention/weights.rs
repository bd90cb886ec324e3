use super::forward::Part;
use super::lanes::{REGISTER, Tile};
use crate::device::{BlockMut, Float, Matrix, Start, Write, product_near, product_serial};
use crate::tensor::Element;

/// Rows up to which scores are kept row by row: a few queries of one sequence, as decoding has, would leave most lanes empty.
const FEW: usize = 8;

/// Scores, then weights of a tile's rows for the keys of one chunk.
#[derive(Default)]
pub(super) struct Weights<F> {
    tile: Tile,
    keys: usize,
    /// Queries [rows, D] if they are few, else [D, lanes].
    q: Vec<F>,
    /// [rows, keys] if the rows are few, else [keys, lanes].
    values: Vec<F>,
}

impl<F: Element<Acc = F> + Float> Weights<F> {
    /// Starts a tile of the queries `q` [rows, D].
    pub(super) fn begin(&mut self, tile: Tile, q: &[F], d: usize) {
        self.tile = tile;
        if self.few() {
            self.q.clear();
            self.q.extend_from_slice(q);
        } else {
            tile.columns(q, d, &mut self.q);
        }
    }

    fn few(&self) -> bool {
        self.tile.rows() <= FEW
    }

    /// Makes room for a chunk of `keys`.
    pub(super) fn resize(&mut self, keys: usize) {
        self.keys = keys;
        let across = if self.few() { self.tile.rows() } else { self.tile.lanes() };
        self.values.resize(across * keys, F::ZERO);
    }

    /// Fills in the products with some keys `k` [keys, D], of which the first is key `at` of the chunk.
    pub(super) fn score(&mut self, k: Matrix<'_, F>, at: usize) {
        let ((count, d), rows, lanes) = (k.size(), self.tile.rows(), self.tile.lanes());
        if self.few() {
            let mut scores = BlockMut::new(&mut self.values[at..], [rows, count], self.keys);
            product_serial(Matrix::new(&self.q, rows, d), k.transposed(), &mut scores, Write::Set);
        } else {
            let mut scores = BlockMut::new(&mut self.values[at * lanes..], [count, lanes], lanes);
            product_near(k, Matrix::new(&self.q, d, lanes), &mut scores, Start::Zero);
        }
    }

    /// Products become scores, scores weights e^(score - m); m and l of the part are set. The chunk's first key stands at position
    /// `first`; keys that a row does not see weigh 0.
    pub(super) fn weigh(&mut self, scale: F, first: usize, part: &mut Part<F>) {
        if self.few() {
            for (r, row) in self.values.chunks_exact_mut(self.keys).enumerate() {
                let (seen, unseen) = row.split_at_mut(self.tile.seen(r).saturating_sub(first).min(self.keys));
                unseen.fill(F::ZERO);
                seen.iter_mut().for_each(|s| *s *= scale);
                let m = largest(seen);
                seen.iter_mut().for_each(|s| *s = (*s - m).exp());
                (part.m[r], part.l[r]) = (m, seen.iter().fold(F::ZERO, |l, w| l + *w));
            }
            return;
        }
        let lanes = self.tile.lanes();
        for (key, row) in self.values.chunks_exact_mut(lanes).enumerate() {
            let (blind, seeing) = row.split_at_mut(self.tile.blind(first + key));
            blind.fill(F::NEG_INFINITY);
            seeing.iter_mut().for_each(|s| *s *= scale);
        }
        let registers = part.m.as_chunks_mut().0.iter_mut().zip(part.l.as_chunks_mut().0);
        for (register, (m, l)) in registers.enumerate() {
            weigh_register(&mut self.values, lanes, register, (m, l));
        }
    }

    /// The weights as [rows, keys].
    pub(super) fn rows(&self) -> Matrix<'_, F> {
        let (rows, lanes) = (self.tile.rows(), self.tile.lanes());
        if self.few() {
            Matrix::new(&self.values, rows, self.keys)
        } else {
            Matrix::strided(&self.values, [rows, self.keys], [1, lanes])
        }
    }
}

/// One register's lanes of [`Weights::weigh`].
fn weigh_register<F: Float>(
    values: &mut [F],
    lanes: usize,
    register: usize,
    (m, l): (&mut [F; REGISTER], &mut [F; REGISTER]),
) {
    let (mut largest, mut sum) = ([F::NEG_INFINITY; REGISTER], [F::ZERO; REGISTER]);
    for row in values.chunks_exact(lanes) {
        let scores = &row.as_chunks::<REGISTER>().0[register];
        largest = std::array::from_fn(|i| larger(largest[i], scores[i]));
    }
    let from = largest.map(finite);
    for row in values.chunks_exact_mut(lanes) {
        let scores = &mut row.as_chunks_mut::<REGISTER>().0[register];
        *scores = std::array::from_fn(|i| (scores[i] - from[i]).exp());
        sum = std::array::from_fn(|i| sum[i] + scores[i]);
    }
    (*m, *l) = (largest, sum);
}

/// The largest score of a row.
fn largest<F: Float>(scores: &[F]) -> F {
    let mut lanes = [F::NEG_INFINITY; REGISTER];
    for scores in scores.chunks(REGISTER) {
        lanes.iter_mut().zip(scores).for_each(|(m, s)| *m = larger(*m, *s));
    }
    lanes.into_iter().fold(F::NEG_INFINITY, larger)
}

/// The larger one of a maximum and a score; a NaN among the scores shows in the weights.
#[inline(always)]
fn larger<F: Float>(m: F, score: F) -> F {
    if score > m { score } else { m }
}

/// What weights are taken relative to.
#[inline(always)]
fn finite<F: Float>(m: F) -> F {
    if m == F::NEG_INFINITY { F::ZERO } else { m }
}
