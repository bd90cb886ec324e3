use super::logits::scale;
use super::{HeadInput, Logprobs, OpError, Scratch, Softmax, launch, product};
use crate::device::{Device, Float, Host, Stream};
use crate::ops::Write;
use crate::tensor::Element;
use crate::with_float;

/// Log-probability, LSE and entropy of each target, a tile of tokens at a time. Moves (N C + tiles V C + 2 N V) elements,
/// 2 N V C flops; on a GPU no scores reach memory. A row's bits depend on nothing but the row and w.
///
/// # Errors
/// When shapes or dtypes do not fit, or a target lies outside the vocabulary.
pub fn token_logprob(
    stream: &Stream,
    input: HeadInput<'_>,
    scratch: &mut Scratch,
    mut out: Logprobs<'_>,
) -> Result<(), OpError> {
    const OP: &str = "head_token_logprob";
    input.check(OP, scratch)?;
    let [n, ..] = input.sizes();
    out.check(OP, (n, input.x.dtype().accumulator()))?;
    let host = match stream.launch(OP) {
        Device::Host(host) => host,
        Device::Cuda(cuda) => return launch::token_logprob(&launch::of(OP, cuda), input, scratch, out),
    };
    input.check_targets(OP)?;
    for start in (0..n).step_by(scratch.rows()) {
        let rows = start..n.min(start + scratch.rows());
        let part = input.rows(rows.clone());
        let mut scores = scratch.scores.rows_mut(0..rows.len());
        product::forward(stream, part.x, part.w, scores.reborrow(), Write::Set)?;
        let out = out.rows(rows);
        with_float!(input.x.dtype(), T => {
            type A = <T as Element>::Acc;
            let out = [out.logprob, out.lse, out.entropy].map(|view| view.host_mut::<A>());
            tile(host, scores.host_mut::<A>(), part.targets.ids(), A::from_f64(input.inv_temperature), out);
        });
    }
    Ok(())
}

fn tile<A: Float>(host: &Host, scores: &mut [A], targets: &[u32], inv_temperature: A, out: [&mut [A]; 3]) {
    let v = scores.len() / targets.len();
    let [logprob, lse, entropy] = out;
    let rows = scores.chunks_mut(v).zip(targets);
    let out = logprob.iter_mut().zip(lse).zip(entropy);
    host.run(rows.zip(out).collect(), |((z, target), ((logprob, lse), entropy))| {
        scale(z, inv_temperature);
        (*logprob, *lse, *entropy) = row(z, *target);
    });
}

/// ln p(target), LSE and entropy of one row of scores.
pub(super) fn row<A: Float>(z: &[A], target: u32) -> (A, A, A) {
    let softmax = Softmax::of(z);
    let lse = softmax.lse();
    (z[target as usize] - lse, lse, softmax.entropy())
}
