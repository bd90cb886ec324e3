//! Which log-ratio of policy and behaviour a target is weighed by.

use std::ops::Range;

use crate::device::Float;

/// Over what the log-ratio is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ratio {
    /// Each target has its own.
    #[default]
    Token,
    /// All targets of a sequence have the mean of those with a policy weight: (p(sequence) / p_behaviour(sequence))^(1 / length).
    Sequence,
}

impl Ratio {
    /// The runs of targets that share a log-ratio, ascending; `sequence` names each target's sequence.
    pub(super) fn runs(self, sequence: &[u32]) -> impl Iterator<Item = Range<usize>> + '_ {
        let same = move |a: &u32, b: &u32| self == Self::Sequence && a == b;
        sequence.chunk_by(same).scan(0, |start, run| {
            *start += run.len();
            Some(*start - run.len()..*start)
        })
    }
}

/// The mean of `logprob - behaviour` over the targets of a run that have a weight, summed in ascending order; 0 without any.
pub(super) fn mean_log_ratio<A: Float>(logprob: &[A], behaviour: &[A], weight: &[A]) -> A {
    let (mut sum, mut count) = (A::ZERO, A::ZERO);
    for ((now, then), weight) in logprob.iter().zip(behaviour).zip(weight) {
        if *weight != A::ZERO {
            sum += *now - *then;
            count += A::ONE;
        }
    }
    if count == A::ZERO { A::ZERO } else { sum / count }
}
