use super::super::kv_append::{BLOCK, PoolShape};
use super::{Keys, OpError, Source, Span, expect_dims, expect_dtype};
use crate::device::LEAF;
use crate::dims;
use crate::tensor::View;

/// The sizes that every body needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Packed rows.
    pub(super) n: usize,
    /// Query heads.
    pub(super) heads: usize,
    /// Key heads.
    pub(super) kv_heads: usize,
    /// Query heads to a key head.
    pub(super) group: usize,
    /// Head dim.
    pub(super) d: usize,
}

/// Reads the sizes off q and the keys.
pub(super) fn shape(op: &'static str, q: View<'_>, keys: Keys<'_>) -> Result<Shape, OpError> {
    let axes: Vec<usize> = q.dims().axes().iter().map(|axis| axis.1).collect();
    let refused = |reason| OpError::Argument { op, reason };
    let [n, heads, d] = axes[..] else {
        return Err(refused(format!("q is {}, expected [N, H, D]", q.dims())));
    };
    let kv_heads = match keys {
        Keys::Packed { k, v } => {
            let kv_heads = k.dims().row_len() / d.max(1);
            for (name, view) in [("k", k), ("v", v)] {
                expect_dims(op, name, view.dims(), dims![N: n, KVH: kv_heads, D: d])?;
                expect_dtype(op, name, view.dtype(), q.dtype())?;
            }
            kv_heads
        }
        Keys::Paged { pool, layer } => {
            let shape = PoolShape::of(op, pool.dims(), layer)?;
            expect_dtype(op, "pool", pool.dtype(), q.dtype())?;
            if shape.d != d {
                return Err(refused(format!("heads of {d} dims, a pool {}", pool.dims())));
            }
            shape.heads
        }
    };
    if kv_heads == 0 || d == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(refused(format!(
            "{heads} query heads of {d} dims do not share {kv_heads} key heads evenly"
        )));
    }
    if d > LEAF {
        return Err(refused(format!("heads of {d} dims: scores are one chain of at most {LEAF}")));
    }
    Ok(Shape { n, heads, kv_heads, group: heads / kv_heads, d })
}

/// Spans cover the rows in order, and every key they name exists.
pub(super) fn spans(op: &'static str, spans: &[Span], keys: Keys<'_>, shape: &Shape) -> Result<(), OpError> {
    let mut next = 0;
    for (index, span) in spans.iter().enumerate() {
        let refused = |reason| OpError::Argument { op, reason: format!("span {index} ({span:?}): {reason}") };
        if span.queries.start != next || span.queries.end < next {
            return Err(refused(format!("its rows should start at {next} and not descend")));
        }
        next = span.queries.end;
        match (&span.source, keys) {
            (Source::Packed { parent }, Keys::Packed { .. }) => {
                let before = match parent {
                    None => Some(0),
                    Some(parent) => spans[..index].get(*parent).map(|p| p.start + p.queries.len()),
                };
                if before != Some(span.start) {
                    return Err(refused(format!("its parent's keys end at {before:?}, not at its start")));
                }
            }
            (Source::Paged { blocks }, Keys::Paged { pool, layer }) => {
                let there = PoolShape::of(op, pool.dims(), layer)?.blocks;
                let needed = (span.start + span.queries.len()).div_ceil(BLOCK);
                if blocks.len() < needed || blocks.iter().any(|&block| block as usize >= there) {
                    return Err(refused(format!("it needs {needed} blocks, all below {there}")));
                }
            }
            _ => return Err(refused("its keys are elsewhere than the operator's".into())),
        }
    }
    if next != shape.n {
        return Err(OpError::Argument { op, reason: format!("the spans cover {next} of {} rows", shape.n) });
    }
    Ok(())
}
