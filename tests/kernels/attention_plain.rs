//! Attention straight from its definition: every key of every query, one sum after the other, no chunks.

use patarm::device::Float;
use patarm::ops::attention::{Source, Span};

/// Sequences packed one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) d: usize,
    /// Queries of each span, and the span it continues.
    pub(crate) spans: Vec<(usize, Option<usize>)>,
}

impl Case {
    pub(crate) fn rows(&self) -> usize {
        self.spans.iter().map(|span| span.0).sum()
    }

    pub(crate) fn q_len(&self) -> usize {
        self.rows() * self.heads * self.d
    }

    pub(crate) fn k_len(&self) -> usize {
        self.rows() * self.kv_heads * self.d
    }

    fn first_row(&self, span: usize) -> usize {
        self.spans[..span].iter().map(|span| span.0).sum()
    }

    /// Packed rows of the keys before a span's own.
    fn before(&self, span: usize) -> Vec<usize> {
        self.spans[span].1.map_or_else(Vec::new, |parent| {
            let first = self.first_row(parent);
            let mut rows = self.before(parent);
            rows.extend(first..first + self.spans[parent].0);
            rows
        })
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let one = |span: usize| {
            let first = self.first_row(span);
            Span {
                queries: first..first + self.spans[span].0,
                start: self.before(span).len(),
                source: Source::Packed { parent: self.spans[span].1 },
            }
        };
        (0..self.spans.len()).map(one).collect()
    }

    /// Calls `f` with each query's first element, its head's first lse, and the first elements of the keys it sees.
    fn each_query(&self, mut f: impl FnMut(usize, usize, &[usize])) {
        for span in 0..self.spans.len() {
            let mut rows = self.before(span);
            for row in self.first_row(span)..self.first_row(span) + self.spans[span].0 {
                rows.push(row);
                for head in 0..self.heads {
                    let kv_head = head / (self.heads / self.kv_heads);
                    let at = |row: &usize| (row * self.kv_heads + kv_head) * self.d;
                    let keys: Vec<usize> = rows.iter().map(at).collect();
                    f((row * self.heads + head) * self.d, row * self.heads + head, &keys);
                }
            }
        }
    }
}

fn dot<F: Float>(a: &[F], b: &[F]) -> F {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

fn cast<F: Float>(values: &[f64]) -> Vec<F> {
    values.iter().map(|x| F::from_f64(*x)).collect()
}

/// out and lse.
pub(crate) fn forward<F: Float>(case: &Case, [q, k, v]: [&[f64]; 3]) -> [Vec<f64>; 2] {
    let [q, k, v] = [q, k, v].map(|x| cast::<F>(x));
    let d = case.d;
    let scale = F::ONE / F::from_f64(d as f64).sqrt();
    let (mut out, mut lse) = (Vec::new(), Vec::new());
    case.each_query(|at, _, keys| {
        let scores: Vec<F> = keys.iter().map(|&key| dot(&q[at..at + d], &k[key..key + d]) * scale).collect();
        let m = scores.iter().fold(F::NEG_INFINITY, |m, s| m.max(*s));
        let weights: Vec<F> = scores.iter().map(|s| (*s - m).exp()).collect();
        let sum: F = weights.iter().copied().sum();
        let one = |i: usize| keys.iter().zip(&weights).map(|(key, w)| *w * v[key + i]).sum::<F>() / sum;
        out.extend((0..d).map(|i| one(i).to_f64()));
        lse.push((m + sum.ln()).to_f64());
    });
    [out, lse]
}

/// What [`backward`] reads.
pub(crate) struct Inputs {
    pub(crate) q: Vec<f64>,
    pub(crate) k: Vec<f64>,
    pub(crate) v: Vec<f64>,
    pub(crate) dout: Vec<f64>,
    pub(crate) out: Vec<f64>,
    pub(crate) lse: Vec<f64>,
}

/// dq, dk and dv, or with `magnitudes` the sums of their terms' magnitudes.
pub(crate) fn backward<F: Float>(case: &Case, inputs: &Inputs, magnitudes: bool) -> [Vec<f64>; 3] {
    let Inputs { q, k, v, dout, out, lse } = inputs;
    let [q, k, v, dout, out, lse] = [q, k, v, dout, out, lse].map(|x| cast::<F>(x));
    let d = case.d;
    let scale = F::ONE / F::from_f64(d as f64).sqrt();
    let [mut dq, mut dk, mut dv] = [q.len(), k.len(), v.len()].map(|len| vec![F::ZERO; len]);
    let sized = |x: F| if magnitudes { x.abs() } else { x };
    let along = |a: &[F], b: &[F]| a.iter().zip(b).map(|(a, b)| sized(*a * *b)).sum::<F>();
    case.each_query(|at, head, keys| {
        let row = at..at + d;
        let delta = along(&dout[row.clone()], &out[row.clone()]);
        for &key in keys {
            let p = (dot(&q[row.clone()], &k[key..key + d]) * scale - lse[head]).exp();
            let dp = along(&dout[row.clone()], &v[key..key + d]);
            let ds = p * scale * if magnitudes { dp + delta } else { dp - delta };
            for i in 0..d {
                dq[at + i] += sized(ds * k[key + i]);
                dk[key + i] += sized(ds * q[at + i]);
                dv[key + i] += sized(p * dout[at + i]);
            }
        }
    });
    [dq, dk, dv].map(|x| x.into_iter().map(F::to_f64).collect())
}

/// Sums of the magnitudes of the terms of out, and of lse with its largest score.
pub(crate) fn forward_terms(case: &Case, [q, k, v]: [&[f64]; 3], lse: &[f64]) -> [Vec<f64>; 2] {
    let (d, scale) = (case.d, 1.0 / (case.d as f64).sqrt());
    let [mut terms, mut lse_terms] = [Vec::new(), Vec::new()];
    case.each_query(|at, head, keys| {
        let row = &q[at..at + d];
        let weigh = |key: &usize| (dot(row, &k[*key..key + d]) * scale - lse[head]).exp();
        let weights: Vec<f64> = keys.iter().map(weigh).collect();
        terms.extend(
            (0..d).map(|i| keys.iter().zip(&weights).map(|(key, w)| (w * v[key + i]).abs()).sum::<f64>()),
        );
        let size = |key: &usize| row.iter().zip(&k[*key..]).map(|(a, b)| (a * b).abs()).sum::<f64>() * scale;
        lse_terms.push(lse[head].abs() + keys.iter().map(size).fold(0.0, f64::max));
    });
    [terms, lse_terms]
}
