use std::sync::Arc;

use half::bf16;

use super::subject::{Magnitudes, Output, Place, Subject, numbers, output};
use crate::bench::BenchError;
use crate::dims;
use crate::ops::attention::{self, Backward, Keys, Source, Span};
use crate::ops::kv_append::{self, BLOCK};
use crate::tensor::Tensor;

/// One causal sequence: tokens, query heads, key heads, head dim.
#[derive(Clone, Copy)]
struct Shape {
    t: usize,
    heads: usize,
    kv_heads: usize,
    d: usize,
}

/// Tails of every tile, more than one chunk of keys, one key head and several; both head dims that models have.
pub(super) fn subjects(large: bool) -> Vec<Subject> {
    let shape = |t, heads, kv_heads, d| Shape { t, heads, kv_heads, d };
    let mut shapes =
        vec![shape(1, 1, 1, 64), shape(67, 4, 2, 64), shape(131, 3, 1, 128), shape(261, 2, 2, 128)];
    if large {
        shapes.push(shape(1031, 32, 8, 128));
    }
    shapes.into_iter().flat_map(|shape| [forward(shape), backward(shape), decode(shape)]).collect()
}

impl Shape {
    fn name(self) -> String {
        let Self { t, heads, kv_heads, d } = self;
        format!("T={t} H={heads} KVH={kv_heads} D={d}")
    }

    /// Scores far from even.
    fn q(self) -> Vec<f64> {
        numbers(1, self.t * self.heads * self.d).iter().map(|x| 4.0 * x).collect()
    }

    fn keys(self, seed: u64) -> Vec<f64> {
        numbers(seed, self.t * self.kv_heads * self.d)
    }

    fn spans(self) -> Vec<Span> {
        vec![Span { queries: 0..self.t, start: 0, source: Source::Packed { parent: None } }]
    }

    /// q, k, v where a body runs.
    fn tensors(self, place: &Place<'_>) -> Result<[Tensor; 3], BenchError> {
        let Self { t, heads, kv_heads, d } = self;
        let rows = dims![N: t, KVH: kv_heads, D: d];
        Ok([
            place.holding(place.dtype, &self.q(), dims![N: t, H: heads, D: d])?,
            place.holding(place.dtype, &self.keys(2), rows)?,
            place.holding(place.dtype, &self.keys(3), rows)?,
        ])
    }

    /// out and lse.
    fn attend(self, place: &Place<'_>, [q, k, v]: &[Tensor; 3]) -> Result<[Tensor; 2], BenchError> {
        let mut out = place.room(q.dims())?;
        let mut lse = place.room_for_sums(dims![N: self.t, H: self.heads])?;
        let keys = Keys::Packed { k: k.view(), v: v.view() };
        attention::forward(place.stream, q.view(), keys, &self.spans(), out.view_mut(), lse.view_mut())?;
        Ok([out, lse])
    }

    /// Calls `f` with where a query, its head's lse, and each key that it sees begin.
    fn each_query(self, mut f: impl FnMut(usize, usize, &[usize])) {
        let group = self.heads / self.kv_heads;
        for row in 0..self.t {
            for head in 0..self.heads {
                let at = |key: usize| (key * self.kv_heads + head / group) * self.d;
                let keys: Vec<usize> = (0..=row).map(at).collect();
                f((row * self.heads + head) * self.d, row * self.heads + head, &keys);
            }
        }
    }

    fn scale(self) -> f64 {
        1.0 / (self.d as f64).sqrt()
    }

    /// p, and how often p is rounded on the way to it: once and by the terms of its score and lse.
    fn weight(self, q: &[f64], k: &[f64], lse: f64) -> [f64; 2] {
        let products = || q.iter().zip(k).map(|(a, b)| a * b * self.scale());
        let p = (products().sum::<f64>() - lse).exp();
        [p, p * (1.0 + products().map(f64::abs).sum::<f64>() + lse.abs())]
    }

    /// Of out, Σ p |v|; of lse, its largest score's and itself.
    fn forward_terms(self, lse: &[f64]) -> Vec<Magnitudes> {
        let (q, k, v, d) = (self.q(), self.keys(2), self.keys(3), self.d);
        let (mut out, mut lses) = ([Vec::new(), Vec::new()], Vec::new());
        self.each_query(|at, head, keys| {
            let (mut rows, mut largest) = ([vec![0.0; d], vec![0.0; d]], 0f64);
            for &key in keys {
                let p = self.weight(&q[at..at + d], &k[key..key + d], lse[head]);
                largest = largest.max(p[1] / p[0]);
                for (row, p) in rows.iter_mut().zip(p) {
                    row.iter_mut().zip(&v[key..key + d]).for_each(|(sum, v)| *sum += p * v.abs());
                }
            }
            out.iter_mut().zip(rows).for_each(|(out, row)| out.extend(row));
            lses.push(largest);
        });
        let [narrowed, summed] = out;
        vec![Magnitudes::new(summed, narrowed), lses.into()]
    }

    /// Of dq, dk, dv.
    fn backward_terms(self, [out, lse]: [&[f64]; 2], dout: &[f64]) -> Vec<Magnitudes> {
        let (q, k, v, d) = (self.q(), self.keys(2), self.keys(3), self.d);
        let both = |len: usize| [vec![0.0; len], vec![0.0; len]];
        let [mut dq, mut dk, mut dv] = [both(q.len()), both(k.len()), both(v.len())];
        let dot =
            |a: &[f64], b: &[f64], f: fn(f64) -> f64| a.iter().zip(b).map(|(a, b)| f(a * b)).sum::<f64>();
        self.each_query(|at, head, keys| {
            let row = at..at + d;
            let along = |f| dot(&dout[row.clone()], &out[row.clone()], f);
            for &key in keys {
                let p = self.weight(&q[row.clone()], &k[key..key + d], lse[head]);
                let dp = |f| dot(&dout[row.clone()], &v[key..key + d], f);
                let slope = [(dp(|x| x) - along(|x| x)).abs(), dp(f64::abs) + along(f64::abs)];
                for which in 0..2 {
                    let (p, ds) = (p[which], p[which] * self.scale() * slope[which]);
                    for i in 0..d {
                        dq[which][at + i] += ds * k[key + i].abs();
                        dk[which][key + i] += ds * q[at + i].abs();
                        dv[which][key + i] += p * dout[at + i].abs();
                    }
                }
            }
        });
        [dq, dk, dv].map(|[narrowed, summed]| Magnitudes::new(summed, narrowed)).into()
    }
}

fn outputs([out, lse]: &[Tensor; 2]) -> Result<Vec<Output>, BenchError> {
    Ok(vec![output("out", out)?, output("lse", lse)?])
}

fn forward_subject(
    op: &'static str,
    shape: Shape,
    run: impl Fn(&Place<'_>) -> Result<Vec<Output>, BenchError> + 'static,
) -> Subject {
    let terms = move |_: &Place<'_>, exact: &[Vec<f64>]| Ok(shape.forward_terms(&exact[1]));
    Subject { op, case: shape.name(), run: Box::new(run), terms: Box::new(terms) }
}

fn forward(shape: Shape) -> Subject {
    let run = move |place: &Place<'_>| outputs(&shape.attend(place, &shape.tensors(place)?)?);
    forward_subject("attention_forward", shape, run)
}

/// The same rows, a query at a time from the cache, whose blocks lie in reverse order.
fn decode(shape: Shape) -> Subject {
    let Shape { t, heads, kv_heads, d } = shape;
    let run = move |place: &Place<'_>| {
        let [q, k, v] = shape.tensors(place)?;
        let count = t.div_ceil(BLOCK);
        let blocks: Arc<[u32]> = (0..count as u32).rev().collect();
        let mut pool = place.room(dims![L: 1, Blocks: count, Pair: 2, KVH: kv_heads, S: BLOCK, D: d])?;
        let slot = |row: usize| blocks[row / BLOCK] * BLOCK as u32 + (row % BLOCK) as u32;
        let slots = place.ids(&(0..t).map(slot).collect::<Vec<_>>())?;
        kv_append::forward(place.stream, k.view(), v.view(), pool.view_mut(), 0, slots.view())?;
        let span = |row: usize| {
            let source = Source::Paged { blocks: Arc::clone(&blocks) };
            Span { queries: row..row + 1, start: row, source }
        };
        let spans: Vec<Span> = (0..t).map(span).collect();
        let mut out = [place.room(q.dims())?, place.room_for_sums(dims![N: t, H: heads])?];
        let [to, lse] = &mut out;
        let keys = Keys::Paged { pool: pool.view(), layer: 0 };
        attention::forward(place.stream, q.view(), keys, &spans, to.view_mut(), lse.view_mut())?;
        outputs(&out)
    };
    forward_subject("attention_decode", shape, run)
}

/// What every body's backward reads: the f64 body's out and lse, rounded as bf16 storage rounds them.
fn known(shape: Shape, place: &Place<'_>) -> Result<[Vec<f64>; 2], BenchError> {
    let exact = place.exact();
    let [out, lse] = shape.attend(&exact, &shape.tensors(&exact)?)?;
    let (out, lse) = (out.view().read()?, lse.view().read()?);
    Ok([
        out.into_iter().map(|x| bf16::from_f64(x).to_f64()).collect(),
        lse.into_iter().map(|x| f64::from(x as f32)).collect(),
    ])
}

fn backward(shape: Shape) -> Subject {
    let Shape { t, heads, kv_heads, d } = shape;
    let dout = move || numbers(4, t * heads * d);
    let run = move |place: &Place<'_>| {
        let [q, k, v] = shape.tensors(place)?;
        let [out, lse] = known(shape, place)?;
        let dout = place.holding(place.dtype, &dout(), q.dims())?;
        let out = place.holding(place.dtype, &out, q.dims())?;
        let lse = place.holding(place.dtype.accumulator(), &lse, dims![N: t, H: heads])?;
        let rows = dims![N: t, KVH: kv_heads, D: d];
        let [mut dq, mut dk, mut dv] = [place.room(q.dims())?, place.room(rows)?, place.room(rows)?];
        let spans = shape.spans();
        let inputs = Backward {
            dout: dout.view(),
            q: q.view(),
            k: k.view(),
            v: v.view(),
            out: out.view(),
            lse: lse.view(),
            spans: &spans,
        };
        attention::backward(place.stream, inputs, dq.view_mut(), dk.view_mut(), dv.view_mut())?;
        Ok(vec![output("dq", &dq)?, output("dk", &dk)?, output("dv", &dv)?])
    };
    let terms = move |place: &Place<'_>, _: &[Vec<f64>]| {
        let [out, lse] = known(shape, place)?;
        Ok(shape.backward_terms([&out, &lse], &dout()))
    };
    let (case, run, terms) = (shape.name(), Box::new(run), Box::new(terms));
    Subject { op: "attention_backward", case, run, terms }
}
