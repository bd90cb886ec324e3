use super::Write;
use crate::ops::work::{Work, of, product_flops};
use crate::tensor::DType;

/// How often a result passes through memory.
fn passes(write: Write) -> usize {
    match write {
        Write::Set => 1,
        Write::Add => 2,
    }
}

/// [`forward`](super::forward)'s, of [N, M, K]: dtype of x and w, and what y is.
pub fn forward_work([n, m, k]: [usize; 3], storage: DType, (y, write): (DType, Write)) -> Work {
    let bytes = of(storage, n * k + m * k) + of(y, passes(write) * n * m);
    Work::moving(bytes).computing(product_flops([n, m, k]))
}

/// [`backward_input`](super::backward_input)'s, of [N, M, K]: dtype of dy and w, and what dx is.
pub fn backward_input_work([n, m, k]: [usize; 3], storage: DType, (dx, write): (DType, Write)) -> Work {
    let bytes = of(storage, n * m + m * k) + of(dx, passes(write) * n * k);
    Work::moving(bytes).computing(product_flops([n, m, k]))
}

/// [`backward_weight`](super::backward_weight)'s, of [N, M, K]: dtype of dy and x; dw is added to.
pub fn backward_weight_work([n, m, k]: [usize; 3], storage: DType) -> Work {
    let bytes = of(storage, n * m + n * k) + of(storage.accumulator(), 2 * m * k);
    Work::moving(bytes).computing(product_flops([n, m, k]))
}
