use super::Write;
use crate::ops::work::{Work, of};
use crate::tensor::DType;

/// [`forward`](super::forward)'s, of [N, C].
pub fn forward_work([n, c]: [usize; 2], storage: DType) -> Work {
    Work::moving(of(storage, 2 * n * c) + of(storage.accumulator(), c + n))
}

/// [`backward`](super::backward)'s, of [N, C], where the gain learns.
pub fn backward_work([n, c]: [usize; 2], storage: DType, dx: Write) -> Work {
    let rows = match dx {
        Write::Set => 3,
        Write::Add => 4,
    };
    Work::moving(of(storage, rows * n * c) + of(storage.accumulator(), c + n + 2 * c))
}
