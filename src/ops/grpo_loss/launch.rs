//! The loss on a GPU: `kernels/grpo_loss.cu`.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};

use super::{GrpoLoss, Kl, LossGradient, LossSums, OpError, PolicyTokens, Ratio};
use crate::device::{Address, Cuda, DeviceError, Grid};
use crate::ops::launch::Launch;
use crate::tensor::{DType, View};

/// Fields of the sums, all f64.
const FIELDS: usize = 12;
/// Tokens of a warp, and of a block.
const WINDOW: usize = 32;
const BLOCK: usize = 256;

/// `Args` in `kernels/grpo_loss.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    logprob: Address,
    behaviour: Address,
    reference: Address,
    entropy: Address,
    advantage: Address,
    weight: Address,
    kl_weight: Address,
    entropy_weight: Address,
    sequence: Address,
    dlogprob: Address,
    dentropy: Address,
    of_sequence: Address,
    starts: Address,
    sums: Address,
    ticket: Address,
    low: f32,
    high: f32,
    dual: f32,
    kl: f32,
    entropy_bonus: f32,
    ratio: i32,
    kl_form: i32,
    tokens: i32,
}

const _: () = assert!(
    size_of::<Arguments>() == 152
        && offset_of!(Arguments, sums) == 104
        && offset_of!(Arguments, low) == 120
        && offset_of!(Arguments, tokens) == 148
);

pub(super) fn forward_backward(
    (op, cuda): (&'static str, &Cuda),
    tokens: PolicyTokens<'_>,
    settings: &GrpoLoss,
    out: LossGradient<'_>,
    sums: &mut LossSums,
) -> Result<(), OpError> {
    let launch = Launch { op, stem: "grpo_loss", cuda };
    let n = tokens.logprob.dims().rows();
    if n == 0 {
        return Ok(());
    }
    crate::ops::expect_dtype(op, "logprob", tokens.logprob.dtype(), DType::F32)?;
    let (each, starts) = (8 * FIELDS, 4 * n.div_ceil(WINDOW));
    let room = cuda.scratch(each * (n + 1) + starts)?;
    let numbers = [room, room.offset(each), room.offset(each * (n + 1))];
    let arguments = Arguments {
        ticket: cuda.tickets(1)?,
        tokens: i32::try_from(n)
            .map_err(|_| launch.refuse(format!("{n} targets: the kernel counts to 2^31")))?,
        ..arguments(tokens, settings, &out, numbers)
    };
    let mut numbers = in_order(sums);
    cuda.driver().upload(cast_slice(&numbers), room).map_err(DeviceError::from)?;
    launch.run_with(
        "grpo_loss_forward_backward_f32",
        Grid::row(n.div_ceil(BLOCK), BLOCK as u32),
        &arguments,
    )?;
    cuda.driver().download(room, cast_slice_mut(&mut numbers)).map_err(DeviceError::from)?;
    *sums = from_order(numbers);
    Ok(())
}

fn arguments(
    tokens: PolicyTokens<'_>,
    settings: &GrpoLoss,
    out: &LossGradient<'_>,
    [sums, of_sequence, starts]: [Address; 3],
) -> Arguments {
    Arguments {
        logprob: tokens.logprob.address(),
        behaviour: tokens.behaviour.address(),
        reference: tokens.reference.map_or(Address(0), View::address),
        entropy: tokens.entropy.address(),
        advantage: tokens.advantage.address(),
        weight: tokens.weight.address(),
        kl_weight: tokens.kl_weight.address(),
        entropy_weight: tokens.entropy_weight.address(),
        sequence: tokens.sequence.address(),
        dlogprob: out.dlogprob.address(),
        dentropy: out.dentropy.address(),
        of_sequence,
        starts,
        sums,
        low: (1.0 - settings.clip_low) as f32,
        high: (1.0 + settings.clip_high) as f32,
        dual: settings.dual_clip.map_or(f32::INFINITY, |dual| dual as f32),
        kl: settings.kl as f32,
        entropy_bonus: settings.entropy as f32,
        ratio: i32::from(settings.ratio == Ratio::Sequence),
        kl_form: match settings.kl_form {
            Kl::K1 => 0,
            Kl::K2 => 1,
            Kl::K3 => 2,
        },
        ..Arguments::zeroed()
    }
}

/// As the kernel's `Field` names them. Counts below 2^53 are exact.
fn in_order(sums: &LossSums) -> [f64; FIELDS] {
    let LossSums { loss, policy, kl, entropy, ratio, kl_estimate, token_entropy, largest_gap, .. } = *sums;
    let [tokens, low, high, dual] =
        [sums.tokens, sums.clipped_low, sums.clipped_high, sums.clipped_dual].map(|count| count as f64);
    [loss, policy, kl, entropy, ratio, kl_estimate, token_entropy, largest_gap, tokens, low, high, dual]
}

fn from_order(numbers: [f64; FIELDS]) -> LossSums {
    let [loss, policy, kl, entropy, ratio, kl_estimate, token_entropy, largest_gap, counts @ ..] = numbers;
    let [tokens, clipped_low, clipped_high, clipped_dual] = counts.map(|count| count as u64);
    LossSums {
        loss,
        policy,
        kl,
        entropy,
        tokens,
        clipped_low,
        clipped_high,
        clipped_dual,
        ratio,
        kl_estimate,
        token_entropy,
        largest_gap,
    }
}
