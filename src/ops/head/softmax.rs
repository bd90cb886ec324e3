//! The one softmax statistic: sampling, training's log-probabilities and the head's gradient all call [`Softmax::of`], so
//! that their bits agree.
//!
//! Order: tiles of [`TILE`] vocabulary ids. Inside a tile the maximum first, then, from zero, lane l sums ids l, l + 16, ...
//! ascending and the sixteen lanes are added ascending; tiles are merged ascending.

use crate::device::Float;

/// Vocabulary ids summed from zero before they are merged.
pub const TILE: usize = 2048;
const LANES: usize = 16;

/// Sums over a row of scores z (logits divided by the temperature). A score that is not finite makes the moment NaN.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Softmax<A> {
    /// Largest score m.
    pub(in crate::ops) max: A,
    /// Sum of e^(z - m).
    pub(in crate::ops) sum: A,
    /// Sum of e^(z - m) (z - m).
    moment: A,
}

impl<A: Float> Softmax<A> {
    /// Of one row.
    pub(in crate::ops) fn of(z: &[A]) -> Self {
        z.chunks(TILE).map(Self::tile).reduce(Self::merge).expect("a vocabulary has at least one id")
    }

    /// ln of the sum of e^z.
    pub(in crate::ops) fn lse(&self) -> A {
        self.max + self.sum.ln()
    }

    /// -sum p ln p, nats.
    pub(in crate::ops) fn entropy(&self) -> A {
        self.sum.ln() - self.moment / self.sum
    }

    fn tile(z: &[A]) -> Self {
        let max = maximum(z);
        let (mut sum, mut moment) = ([A::ZERO; LANES], [A::ZERO; LANES]);
        let (whole, rest) = z.as_chunks::<LANES>();
        for z in whole {
            for l in 0..LANES {
                let d = z[l] - max;
                let e = d.exp();
                sum[l] += e;
                moment[l] = e.fma(d, moment[l]);
            }
        }
        for (l, z) in rest.iter().enumerate() {
            let d = *z - max;
            let e = d.exp();
            sum[l] += e;
            moment[l] = e.fma(d, moment[l]);
        }
        Self { max, sum: ascending(sum), moment: ascending(moment) }
    }

    fn merge(self, later: Self) -> Self {
        let max = larger(self.max, later.max);
        let (a, b) = (self.max - max, later.max - max);
        let (p, q) = (a.exp(), b.exp());
        Self {
            max,
            sum: p.fma(self.sum, q * later.sum),
            moment: p.fma(a.fma(self.sum, self.moment), q * b.fma(later.sum, later.moment)),
        }
    }
}

/// The larger one in one instruction. NaN never wins: it shows in the sums.
#[inline(always)]
fn larger<A: Float>(a: A, b: A) -> A {
    if b > a { b } else { a }
}

/// The largest score that is not NaN.
#[inline]
pub(in crate::ops) fn maximum<A: Float>(z: &[A]) -> A {
    let mut lanes = [A::NEG_INFINITY; LANES];
    let (whole, rest) = z.as_chunks::<LANES>();
    for z in whole {
        for l in 0..LANES {
            lanes[l] = larger(lanes[l], z[l]);
        }
    }
    lanes.iter().chain(rest).fold(A::NEG_INFINITY, |m, z| larger(m, *z))
}

fn ascending<A: Float>(lanes: [A; LANES]) -> A {
    lanes.into_iter().fold(A::ZERO, |sum, x| sum + x)
}
