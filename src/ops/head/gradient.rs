use std::ops::Range;

use super::logits::scale;
use super::token_logprob::row;
use super::{
    HeadInput, Leaves, Logprobs, OpError, Scratch, expect_dims, expect_dtype, expect_vector, launch, product,
};
use crate::device::{Device, Float, Host, Stream};
use crate::dims;
use crate::ops::Write;
use crate::tensor::{Element, View, ViewMut};
use crate::with_float;

const OP: &str = "head_gradient";

/// How the loss changes with each target's log-probability and each row's entropy: [N], the accumulator's dtype.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients<'a> {
    /// dL/dlogp.
    pub dlogprob: View<'a>,
    /// dL/dH; none: the entropy is not part of the loss.
    pub dentropy: Option<View<'a>>,
}

/// Where the rows' LSE and entropy come from.
#[derive(Debug)]
pub enum Lse<'a> {
    /// Known already, from sampling or [`token_logprob`](super::token_logprob) under the same weights: [N] each.
    Stored {
        /// ln of the sum of e^z.
        lse: View<'a>,
        /// -sum p ln p; read only where dL/dH is given.
        entropy: View<'a>,
    },
    /// Computed in the same pass and written out: for losses whose coefficients are known beforehand, such as SFT's.
    Fresh(Logprobs<'a>),
}

/// What the head's gradient writes.
#[derive(Debug)]
pub struct HeadGradient<'a> {
    /// [N, C] in storage, overwritten.
    pub dx: ViewMut<'a>,
    /// [V, C] in the accumulator's dtype, added to; none where w does not learn.
    pub dw: Option<ViewMut<'a>>,
}

/// dx = dz w and dw += dzᵀ x with dz = (dL/dlogp (onehot(target) - p) - dL/dH p (ln p + H)) / T, in place in the tile.
///
/// 6 N V C flops (three products, none of them twice). On the host each tile of tokens reads w twice and reads and writes dw
/// once; tiles are cut inside `leaves` (ranges of the N rows) from each leaf's start, so that dw does not depend on how many
/// leaves share a call. On a GPU tiles are of ids, over all tokens whose dx the scratch holds in f32 (whole leaves, unless one
/// alone is larger): w is read twice, and dw read and written once, for all of them.
///
/// # Errors
/// When shapes or dtypes do not fit, or a target lies outside the vocabulary.
pub fn gradient(
    stream: &Stream,
    input: HeadInput<'_>,
    coefficients: Coefficients<'_>,
    mut lse: Lse<'_>,
    (leaves, scratch): (&Leaves, &mut Scratch),
    mut out: HeadGradient<'_>,
) -> Result<(), OpError> {
    input.check(OP, scratch)?;
    check(&input, &coefficients, &lse, leaves, &out)?;
    let host = match stream.launch(OP) {
        Device::Host(host) => host,
        Device::Cuda(cuda) => {
            let to = (stream, &launch::of(OP, cuda));
            return launch::gradient(to, input, coefficients, lse, (leaves, scratch), out);
        }
    };
    input.check_targets(OP)?;
    for tile in tiles(leaves, scratch.rows()) {
        let part = input.rows(tile.clone());
        product::forward(stream, part.x, part.w, scratch.scores.rows_mut(0..tile.len()), Write::Set)?;
        let dz = score_gradient(host, part, coefficients.rows(tile.clone()), lse.rows(tile.clone()), scratch);
        product::backward_input(stream, dz, input.w, out.dx.reborrow().rows(tile.clone()), Write::Set)?;
        if let Some(dw) = &mut out.dw {
            product::backward_weight(stream, dz, part.x, &Leaves::one(tile.len()), dw.reborrow())?;
        }
    }
    Ok(())
}

fn check(
    input: &HeadInput<'_>,
    coefficients: &Coefficients<'_>,
    lse: &Lse<'_>,
    leaves: &Leaves,
    out: &HeadGradient<'_>,
) -> Result<(), OpError> {
    let [n, c, v] = input.sizes();
    let accumulator = input.x.dtype().accumulator();
    let vector =
        |name, view: View<'_>| expect_vector(OP, name, (view.dims(), view.dtype()), (n, accumulator));
    vector("dlogprob", coefficients.dlogprob)?;
    coefficients.dentropy.map_or(Ok(()), |view| vector("dentropy", view))?;
    match lse {
        Lse::Stored { lse, entropy } => vector("lse", *lse).and(vector("entropy", *entropy))?,
        Lse::Fresh(logprobs) => logprobs.check(OP, (n, accumulator))?,
    }
    expect_dims(OP, "dx", out.dx.dims(), dims![N: n, C: c])?;
    expect_dtype(OP, "dx", out.dx.dtype(), input.x.dtype())?;
    if let Some(dw) = &out.dw {
        expect_dims(OP, "dw", dw.dims(), dims![V: v, C: c])?;
        expect_dtype(OP, "dw", dw.dtype(), accumulator)?;
    }
    if leaves.tokens() != n {
        let reason = format!("the leaves hold {} rows, x {n}: both must agree", leaves.tokens());
        return Err(OpError::Argument { op: OP, reason });
    }
    Ok(())
}

/// Runs of at most `rows` tokens, each inside one leaf.
fn tiles(leaves: &Leaves, rows: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    leaves
        .ranges()
        .flat_map(move |leaf| leaf.clone().step_by(rows).map(move |start| start..leaf.end.min(start + rows)))
}

impl Coefficients<'_> {
    pub(super) fn rows(&self, rows: Range<usize>) -> Self {
        let dentropy = self.dentropy.map(|view| view.rows(rows.clone()));
        Self { dlogprob: self.dlogprob.rows(rows), dentropy }
    }
}

impl Lse<'_> {
    pub(super) fn rows(&mut self, rows: Range<usize>) -> Lse<'_> {
        match self {
            Self::Stored { lse, entropy } => {
                Lse::Stored { lse: lse.rows(rows.clone()), entropy: entropy.rows(rows) }
            }
            Self::Fresh(logprobs) => Lse::Fresh(logprobs.rows(rows)),
        }
    }
}

/// Products become scores, and in their place their gradient, in storage.
fn score_gradient<'a>(
    host: &Host,
    input: HeadInput<'_>,
    coefficients: Coefficients<'_>,
    lse: Lse<'_>,
    scratch: &'a mut Scratch,
) -> View<'a> {
    let n = input.x.dims().rows();
    with_float!(input.x.dtype(), T => {
        let scores = scratch.scores.rows_mut(0..n).host_mut::<<T as Element>::Acc>();
        let narrow = scratch.narrow.as_mut().map(|tensor| tensor.rows_mut(0..n).host_mut::<T>());
        tile::<T>(host, (scores, narrow), input, coefficients, lse);
    });
    scratch.narrow.as_ref().unwrap_or(&scratch.scores).rows(0..n)
}

/// One row's part of the loss.
struct Row<A> {
    target: u32,
    dlogprob: A,
    dentropy: A,
    inv_temperature: A,
}

/// One row's LSE and entropy: given, or to be found and written out with the log-probability.
enum RowLse<'a, A> {
    Stored(A, A),
    Fresh(&'a mut A, &'a mut A, &'a mut A),
}

fn tile<T: Element>(
    host: &Host,
    (scores, narrow): (&mut [T::Acc], Option<&mut [T]>),
    input: HeadInput<'_>,
    coefficients: Coefficients<'_>,
    lse: Lse<'_>,
) {
    let targets = input.targets.ids();
    let v = scores.len() / targets.len();
    let dlogprob = coefficients.dlogprob.host::<T::Acc>();
    let dentropy = coefficients.dentropy.map(|view| view.host::<T::Acc>());
    let inv_temperature = T::Acc::from_f64(input.inv_temperature);
    let mut narrow: Vec<_> = match narrow {
        Some(narrow) => narrow.chunks_mut(v).map(Some).collect(),
        None => targets.iter().map(|_| None).collect(),
    };
    let rows = scores.chunks_mut(v).zip(narrow.iter_mut()).zip(row_lses(lse)).enumerate();
    host.run(rows.collect(), |(i, ((z, narrow), lse))| {
        let dentropy = dentropy.map_or(T::Acc::ZERO, |d| d[i]);
        let row = Row { target: targets[i], dlogprob: dlogprob[i], dentropy, inv_temperature };
        row_gradient(z, &row, lse);
        if let Some(narrow) = narrow {
            narrow.iter_mut().zip(z).for_each(|(out, dz)| *out = T::store(*dz));
        }
    });
}

fn row_lses<A: Element<Acc = A> + Float>(lse: Lse<'_>) -> Vec<RowLse<'_, A>> {
    match lse {
        Lse::Stored { lse, entropy } => {
            let pairs = lse.host::<A>().iter().zip(entropy.host::<A>());
            pairs.map(|(lse, entropy)| RowLse::Stored(*lse, *entropy)).collect()
        }
        Lse::Fresh(Logprobs { logprob, lse, entropy }) => {
            let pairs = logprob.host_mut::<A>().iter_mut().zip(lse.host_mut::<A>());
            let triples = pairs.zip(entropy.host_mut::<A>());
            triples.map(|((logprob, lse), entropy)| RowLse::Fresh(logprob, lse, entropy)).collect()
        }
    }
}

/// Products become scores, scores their gradient. With t = z - lse = ln p, a row's gradient before the target's own term is
/// -p ((dL/dlogp + dL/dH H) + dL/dH t) / T: one pass.
fn row_gradient<A: Float>(z: &mut [A], of: &Row<A>, lse: RowLse<'_, A>) {
    scale(z, of.inv_temperature);
    let (lse, entropy) = match lse {
        RowLse::Stored(lse, entropy) => (lse, entropy),
        RowLse::Fresh(logprob, lse, entropy) => {
            (*logprob, *lse, *entropy) = row(z, of.target);
            (*lse, *entropy)
        }
    };
    if of.dlogprob == A::ZERO && of.dentropy == A::ZERO {
        return z.fill(A::ZERO);
    }
    let slope = -of.dentropy * of.inv_temperature;
    let level = -(if of.dentropy == A::ZERO { of.dlogprob } else { of.dentropy.fma(entropy, of.dlogprob) })
        * of.inv_temperature;
    for z in z.iter_mut() {
        let t = *z - lse;
        *z = t.exp() * slope.fma(t, level);
    }
    z[of.target as usize] += of.dlogprob * of.inv_temperature;
}
