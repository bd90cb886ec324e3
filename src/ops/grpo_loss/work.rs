use crate::ops::work::{Work, of};
use crate::tensor::DType;

/// Whether log-probabilities of a reference are among the loss's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// They are.
    Present,
    /// They are not.
    Absent,
}

/// [`forward_backward`](super::forward_backward)'s, of [N] targets: seven columns and the sequences in, two columns out.
pub fn work(n: usize, sums: DType, reference: Reference) -> Work {
    let columns = match reference {
        Reference::Present => 10,
        Reference::Absent => 9,
    };
    Work::moving(of(sums, columns * n) + of(DType::U32, n))
}
