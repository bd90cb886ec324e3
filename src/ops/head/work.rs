use crate::ops::work::{Work, of, product_flops};
use crate::tensor::DType;

/// What [`gradient`](super::gradient) knows beforehand: see [`Lse`](super::Lse).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The LSE: read.
    Stored,
    /// Nothing: log-probability, LSE and entropy are written.
    Fresh,
}

/// [`logits`](super::logits)', of [B, C, V].
pub fn logits_work([b, c, v]: [usize; 3], storage: DType) -> Work {
    let bytes = of(storage, b * c + v * c) + of(storage.accumulator(), b * v);
    Work::moving(bytes).computing(product_flops([b, v, c]))
}

/// [`token_logprob`](super::token_logprob)'s, of [N, C, V]: w once for all tokens, targets in, three columns out, no scores.
pub fn token_logprob_work([n, c, v]: [usize; 3], storage: DType) -> Work {
    let columns = of(DType::U32, n) + of(storage.accumulator(), 3 * n);
    Work::moving(of(storage, n * c + v * c) + columns).computing(product_flops([n, v, c]))
}

/// [`gradient`](super::gradient)'s, of [N, C, V], where the entropy is not part of the loss and w learns: three products.
pub fn gradient_work([n, c, v]: [usize; 3], storage: DType, known: Known) -> Work {
    let sums = storage.accumulator();
    let columns = match known {
        Known::Stored => 1,
        Known::Fresh => 3,
    };
    let bytes = of(storage, 2 * n * c + v * c) + of(sums, 2 * v * c);
    let columns = of(DType::U32, n) + of(sums, (1 + columns) * n);
    Work::moving(bytes + columns).computing(3 * product_flops([n, v, c]))
}
