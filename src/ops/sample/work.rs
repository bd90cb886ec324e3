use crate::ops::work::{Work, of};
use crate::tensor::DType;

/// [`forward`](super::forward)'s, of [B, V] logits, read once: what is drawn, and how, is nothing beside them.
pub fn work([b, v]: [usize; 2], logits: DType) -> Work {
    Work::moving(of(logits, b * v))
}
