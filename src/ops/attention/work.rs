use std::collections::BTreeMap;

use super::{Source, Span};
use crate::ops::kv_append::BLOCK;
use crate::ops::work::{Work, of};
use crate::tensor::DType;

/// Sizes that attention's work depends on beside its spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key heads.
    pub key: usize,
    /// Head dim.
    pub d: usize,
}

/// [`forward`](super::forward)'s: 4 D flops for each query head and key seen; a packed row or a cached key is read once, however
/// many spans see it.
pub fn forward_work(spans: &[Span], heads: Heads, storage: DType) -> Work {
    let (n, keys) = (rows(spans), keys(spans));
    let cells = 2 * n * heads.query + 2 * keys * heads.key;
    let bytes = of(storage, cells * heads.d) + of(storage.accumulator(), n * heads.query);
    Work::moving(bytes).computing(4 * seen(spans, heads))
}

/// [`backward`](super::backward)'s: 10 D flops for each query head and key seen.
pub fn backward_work(spans: &[Span], heads: Heads, storage: DType) -> Work {
    let n = rows(spans);
    let bytes = of(storage, 4 * n * (heads.query + heads.key) * heads.d);
    let lse = of(storage.accumulator(), n * heads.query);
    Work::moving(bytes + lse).computing(10 * seen(spans, heads))
}

fn rows(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.queries.len()).sum()
}

/// D for each query head and key that a query sees: those before its span, and those up to its own.
fn seen(spans: &[Span], heads: Heads) -> u64 {
    let of_span = |span: &Span| {
        let (n, before) = (span.queries.len() as u64, span.start as u64);
        n * before + n * (n + 1) / 2
    };
    spans.iter().map(of_span).sum::<u64>() * heads.query as u64 * heads.d as u64
}

/// Keys that some span sees: packed rows, and of each block of the cache as many as the longest span has there.
fn keys(spans: &[Span]) -> usize {
    let mut blocks: BTreeMap<u32, usize> = BTreeMap::new();
    let mut packed = 0;
    for span in spans {
        match &span.source {
            Source::Packed { .. } => packed += span.queries.len(),
            Source::Paged { blocks: own } => {
                let keys = span.start + span.queries.len();
                for (block, first) in own.iter().zip((0..keys).step_by(BLOCK)) {
                    let held = blocks.entry(*block).or_default();
                    *held = (*held).max(BLOCK.min(keys - first));
                }
            }
        }
    }
    packed + blocks.values().sum::<usize>()
}
