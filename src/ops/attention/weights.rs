use super::forward::Part;
use super::lanes::Tile;
use crate::device::{BlockMut, Float, Matrix, Write, product_near, product_serial};
use crate::tensor::Element;

/// Rows up to which scores are kept row by row: a few queries of one sequence, as decoding has, would leave most lanes empty.
const FEW: usize = 8;

/// Scores, then weights of a tile's rows for the keys of one chunk.
pub(super) struct Weights<F> {
    tile: Tile,
    layout: Layout,
    /// Queries [rows, D] if they are few, else [D, lanes].
    q: Vec<F>,
    values: Vec<F>,
}

#[derive(Clone, Copy)]
enum Layout {
    /// [rows, keys]
    Few,
    /// [keys, lanes]
    Lanes,
}

impl<F: Element<Acc = F> + Float> Weights<F> {
    /// For the queries `q` [rows, D].
    pub(super) fn new(tile: Tile, q: Vec<F>, d: usize) -> Self {
        let few = tile.rows() <= FEW;
        let (layout, q) = if few { (Layout::Few, q) } else { (Layout::Lanes, tile.columns(&q, d)) };
        Self { tile, layout, q, values: Vec::new() }
    }

    /// Fills in the scores for the keys `k` [keys, D], of which the first stands at position `first`; those that a row does not
    /// see are minus infinity.
    pub(super) fn score(&mut self, k: Matrix<'_, F>, scale: F, first: usize) {
        let (keys, d) = k.size();
        match self.layout {
            Layout::Few => {
                let rows = self.tile.rows();
                self.values.resize(rows * keys, F::ZERO);
                let mut scores = BlockMut::new(&mut self.values, [rows, keys], keys);
                product_serial(Matrix::new(&self.q, rows, d), k.transposed(), &mut scores, Write::Set);
                for (r, row) in self.values.chunks_exact_mut(keys).enumerate() {
                    let seen = self.tile.seen(r).saturating_sub(first).min(keys);
                    row[..seen].iter_mut().for_each(|s| *s *= scale);
                    row[seen..].fill(F::NEG_INFINITY);
                }
            }
            Layout::Lanes => {
                let lanes = self.tile.lanes();
                self.values.resize(keys * lanes, F::ZERO);
                let mut scores = BlockMut::new(&mut self.values, [keys, lanes], lanes);
                product_near(k, Matrix::new(&self.q, d, lanes), &mut scores, Write::Set);
                for (key, row) in self.values.chunks_exact_mut(lanes).enumerate() {
                    let (blind, seeing) = row.split_at_mut(self.tile.blind(first + key));
                    blind.fill(F::NEG_INFINITY);
                    seeing.iter_mut().for_each(|s| *s *= scale);
                }
            }
        }
    }

    /// Scores become weights e^(score - m); m and l of the part are set. A row that sees no key has weights of 0.
    pub(super) fn weigh(&mut self, part: &mut Part<F>) {
        match self.layout {
            Layout::Few => {
                let keys = self.values.len() / self.tile.rows();
                for (r, row) in self.values.chunks_exact_mut(keys).enumerate() {
                    let m = largest(row);
                    let from = finite(m);
                    row.iter_mut().for_each(|s| *s = (*s - from).exp());
                    (part.m[r], part.l[r]) = (m, row.iter().fold(F::ZERO, |l, w| l + *w));
                }
            }
            Layout::Lanes => {
                let (m, l) = (&mut part.m, &mut part.l);
                m.fill(F::NEG_INFINITY);
                l.fill(F::ZERO);
                for row in self.values.chunks_exact(m.len()) {
                    m.iter_mut().zip(row).for_each(|(m, s)| *m = larger(*m, *s));
                }
                for row in self.values.chunks_exact_mut(m.len()) {
                    for ((s, m), l) in row.iter_mut().zip(&*m).zip(&mut *l) {
                        *s = (*s - finite(*m)).exp();
                        *l += *s;
                    }
                }
            }
        }
    }

    /// The weights as [rows, keys].
    pub(super) fn rows(&self) -> Matrix<'_, F> {
        let rows = self.tile.rows();
        match self.layout {
            Layout::Few => Matrix::new(&self.values, rows, self.values.len() / rows),
            Layout::Lanes => {
                let lanes = self.tile.lanes();
                Matrix::strided(&self.values, [rows, self.values.len() / lanes], [1, lanes])
            }
        }
    }
}

/// The larger one of a maximum and a score; a NaN among the scores shows in the weights.
#[inline(always)]
fn larger<F: Float>(m: F, score: F) -> F {
    if score > m { score } else { m }
}

/// The largest score, register by register.
fn largest<F: Float>(scores: &[F]) -> F {
    let mut lanes = [F::NEG_INFINITY; 16];
    for scores in scores.chunks(16) {
        lanes.iter_mut().zip(scores).for_each(|(m, s)| *m = larger(*m, *s));
    }
    lanes.into_iter().fold(F::NEG_INFINITY, larger)
}

/// What weights are taken relative to.
#[inline(always)]
fn finite<F: Float>(m: F) -> F {
    if m == F::NEG_INFINITY { F::ZERO } else { m }
}
