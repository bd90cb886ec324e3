use std::sync::Arc;

use super::KernelShapes;
use super::case::{Case, Traffic};
use crate::dims;
use crate::ops::attention::{self, Backward, Heads, Keys, Source, Span};
use crate::ops::kv_append::{self, BLOCK};
use crate::tensor::DType;

/// Causal attention over one sequence in both directions, and over the cache.
pub(super) fn cases(shapes: &KernelShapes) -> Vec<Case> {
    let c = &shapes.config;
    let heads = Heads { query: c.heads, key: c.kv_heads, d: c.head_dim };
    let packed = shapes
        .attention
        .iter()
        .flat_map(|t| [forward(heads, shapes.dtype, *t), backward(heads, shapes.dtype, *t)]);
    let paged = shapes.decode.iter().map(|[b, keys]| decode(heads, shapes.dtype, [*b, *keys]));
    let append = shapes.decode.iter().map(|[b, _]| append(heads, shapes.dtype, *b));
    packed.chain(paged).chain(append).collect()
}

fn name(op: &str, heads: Heads, rest: &str) -> String {
    let Heads { query, key, d } = heads;
    format!("{op}/{rest} H={query} KVH={key} D={d}")
}

fn one_sequence(tokens: usize) -> Vec<Span> {
    vec![Span { queries: 0..tokens, start: 0, source: Source::Packed { parent: None } }]
}

fn forward(heads: Heads, dtype: DType, t: usize) -> Case {
    let Heads { query, key, d } = heads;
    let spans = one_sequence(t);
    let work = attention::forward_work(&spans, heads, dtype);
    let name = name("attention_forward", heads, &format!("causal T={t}"));
    Case::new(name, (work, Traffic::Copies), move |room| {
        let q = room.numbers(dtype, dims![N: t, H: query, D: d])?;
        let k = room.numbers(dtype, dims![N: t, KVH: key, D: d])?;
        let v = room.numbers(dtype, dims![N: t, KVH: key, D: d])?;
        let mut out = room.zeros(dtype, q.dims())?;
        let mut lse = room.zeros(dtype.accumulator(), dims![N: t, H: query])?;
        let spans = spans.clone();
        Ok(Box::new(move |stream| {
            let keys = Keys::Packed { k: k.view(), v: v.view() };
            attention::forward(stream, q.view(), keys, &spans, out.view_mut(), lse.view_mut())
        }))
    })
}

fn backward(heads: Heads, dtype: DType, t: usize) -> Case {
    let Heads { query, key, d } = heads;
    let spans = one_sequence(t);
    let work = attention::backward_work(&spans, heads, dtype);
    let name = name("attention_backward", heads, &format!("causal T={t}"));
    Case::new(name, (work, Traffic::Copies), move |room| {
        let q = room.numbers(dtype, dims![N: t, H: query, D: d])?;
        let k = room.numbers(dtype, dims![N: t, KVH: key, D: d])?;
        let v = room.numbers(dtype, dims![N: t, KVH: key, D: d])?;
        let dout = room.numbers(dtype, q.dims())?;
        let out = room.numbers(dtype, q.dims())?;
        let lse = room.numbers(dtype.accumulator(), dims![N: t, H: query])?;
        let mut dq = room.zeros(dtype, q.dims())?;
        let mut dk = room.zeros(dtype, k.dims())?;
        let mut dv = room.zeros(dtype, k.dims())?;
        let spans = spans.clone();
        Ok(Box::new(move |stream| {
            let inputs = Backward {
                dout: dout.view(),
                q: q.view(),
                k: k.view(),
                v: v.view(),
                out: out.view(),
                lse: lse.view(),
                spans: &spans,
            };
            attention::backward(stream, inputs, dq.view_mut(), dk.view_mut(), dv.view_mut())
        }))
    })
}

/// One query a sequence, its keys in blocks that no other has.
fn decode(heads: Heads, dtype: DType, [b, keys]: [usize; 2]) -> Case {
    let Heads { query, key, d } = heads;
    let each = keys.div_ceil(BLOCK);
    let span = |row: usize| {
        let blocks: Arc<[u32]> = (0..each).map(|i| (row * each + i) as u32).collect();
        Span { queries: row..row + 1, start: keys - 1, source: Source::Paged { blocks } }
    };
    let spans: Vec<Span> = (0..b).map(span).collect();
    let work = attention::forward_work(&spans, heads, dtype);
    let name = name("attention_decode", heads, &format!("B={b} keys={keys}"));
    Case::new(name, (work, Traffic::Reads), move |room| {
        let q = room.numbers(dtype, dims![N: b, H: query, D: d])?;
        let blocks = b * each;
        let pool = dims![L: 1, Blocks: blocks, Pair: 2, KVH: key, S: BLOCK, D: d];
        let pool = room.numbers(dtype, pool)?;
        let mut out = room.zeros(dtype, q.dims())?;
        let mut lse = room.zeros(dtype.accumulator(), dims![N: b, H: query])?;
        let spans = spans.clone();
        Ok(Box::new(move |stream| {
            let keys = Keys::Paged { pool: pool.view(), layer: 0 };
            attention::forward(stream, q.view(), keys, &spans, out.view_mut(), lse.view_mut())
        }))
    })
}

/// One token of each sequence into a block of its own.
fn append(heads: Heads, dtype: DType, b: usize) -> Case {
    let Heads { key, d, .. } = heads;
    let work = kv_append::work([b, key, d], dtype);
    let name = format!("kv_append/B={b} KVH={key} D={d}");
    Case::new(name, (work, Traffic::Copies), move |room| {
        let k = room.numbers(dtype, dims![N: b, KVH: key, D: d])?;
        let v = room.numbers(dtype, dims![N: b, KVH: key, D: d])?;
        let mut pool = room.zeros(dtype, dims![L: 1, Blocks: b, Pair: 2, KVH: key, S: BLOCK, D: d])?;
        let slots: Vec<u32> = (0..b).map(|row| (row * BLOCK + row % BLOCK) as u32).collect();
        let slots = room.ids(&slots, dims![N: b])?;
        Ok(Box::new(move |stream| {
            kv_append::forward(stream, k.view(), v.view(), pool.view_mut(), 0, slots.view())
        }))
    })
}
