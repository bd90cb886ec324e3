//! How rows are dealt to threads, and the one order in which a row is summed.

use crate::tensor::Element;

/// Elements that one task of a memory-bound operator covers: enough to hide the hand-over, few enough to share out.
const TASK: usize = 1 << 14;

/// Independent chains of a sum over one row.
const LANES: usize = 16;

/// Rows of `columns` elements that one task covers.
pub(super) fn rows_per_task(columns: usize) -> usize {
    (TASK / columns.max(1)).max(1)
}

/// Sum of a[i] b[i]: lane i % 16 is a chain of fused multiply-adds over ascending i from zero; the lanes are then added in
/// halves (8, 4, 2, 1). Both slices have the same length.
#[inline(always)]
pub(super) fn dot<A: Element, B: Element<Acc = A::Acc>>(a: &[A], b: &[B]) -> A::Acc {
    let mut lanes = [A::Acc::default(); LANES];
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] = fma(a[i].load(), b[i].load(), lanes[i]);
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_tail).zip(b_tail) {
        *lane = fma(a.load(), b.load(), *lane);
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

#[inline(always)]
fn fma<F: crate::device::Float>(a: F, b: F, sum: F) -> F {
    a.fma(b, sum)
}
