//! The head on a GPU: `kernels/head.cu` for what goes through scores, `product` for what their gradient is multiplied with.

use std::mem::offset_of;
use std::ops::Range;

use bytemuck::{Pod, Zeroable, bytes_of};

use super::{
    Coefficients, HeadGradient, HeadInput, Leaves, Logprobs, Lse, OpError, Scratch, groups, product,
};
use crate::device::{Address, Cuda, Grid, Stream};
use crate::dims;
use crate::ops::Write;
use crate::ops::launch::Launch;
use crate::ops::product::variant::{self, Variant};
use crate::tensor::{Tensor, View, ViewMut};

/// Ids of a tile, and of what leaves a block as one softmax statistic.
const TILE: usize = 128;
const SPAN: usize = 512;
/// Tokens of a tile, where they are many.
const TOKENS: usize = 128;
/// Four f32: a span's statistic.
const STATISTIC: usize = 4;
/// Dynamic shared memory of a block, few tokens and many.
const SHARED: [u32; 2] = [73_728, 98_304];

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Operand {
    pub(super) data: Address,
    pub(super) stride: i64,
    pub(super) extent: i64,
}

/// `product::Args` in `kernels/product.cuh`: w times x, or x times w.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Scores {
    pub(super) a: Operand,
    pub(super) b: Operand,
    out: Address,
    unused: [Address; 3],
    pub(super) depth: i32,
    leaves: i32,
    out_stride: i32,
    add: i32,
}

/// `LogitsArgs` in `kernels/head.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LogitsArgs {
    scores: Scores,
    inv_temperature: f32,
    padding: u32,
}

/// `TokenLogprobArgs` in `kernels/head.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TokenLogprobArgs {
    scores: Scores,
    targets: Address,
    of_target: Address,
    parts: Address,
    tickets: Address,
    logprob: Address,
    lse: Address,
    entropy: Address,
    inv_temperature: f32,
    padding: u32,
}

/// `GradientArgs` in `kernels/head.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct GradientArgs {
    scores: Scores,
    targets: Address,
    dlogprob: Address,
    dentropy: Address,
    lse: Address,
    entropy: Address,
    first_id: i32,
    inv_temperature: f32,
}

const _: () = assert!(size_of::<Scores>() == 96 && offset_of!(Scores, depth) == 80);
const _: () = assert!(size_of::<LogitsArgs>() == 104);
const _: () = assert!(
    size_of::<TokenLogprobArgs>() == 160
        && offset_of!(TokenLogprobArgs, tickets) == 120
        && offset_of!(TokenLogprobArgs, inv_temperature) == 152
);
const _: () = assert!(size_of::<GradientArgs>() == 144 && offset_of!(GradientArgs, first_id) == 136);

/// The launches of one of the head's operators.
pub(super) fn of<'a>(op: &'static str, cuda: &'a Cuda) -> Launch<'a> {
    Launch { op, stem: "head", cuda }
}

/// w times x.
fn scores(launch: &Launch<'_>, x: View<'_>, w: View<'_>) -> Result<Scores, OpError> {
    for (tensor, view) in [("x", x), ("w", w)] {
        launch.expect_bf16(tensor, view)?;
        launch.pieces_of_row(tensor, view)?;
    }
    let c = launch.count("columns", x.dims().row_len())?;
    let operand = |view: View<'_>| Operand {
        data: view.address(),
        stride: i64::from(c),
        extent: view.dims().rows() as i64,
    };
    Ok(Scores {
        a: operand(w),
        b: operand(x),
        out: Address(0),
        unused: [Address(0); 3],
        depth: c as i32,
        leaves: c.div_ceil(variant::LEAF as u32) as i32,
        out_stride: 0,
        add: 0,
    })
}

/// Ids are taken eight at a time, and counted in 32 bits.
fn expect_eights(launch: &Launch<'_>, v: usize) -> Result<(), OpError> {
    if v.is_multiple_of(8) && v < 1 << 31 {
        return Ok(());
    }
    Err(launch.refuse(format!("{v} ids: on CUDA their number is a multiple of 8 below 2^31")))
}

pub(super) fn logits(
    launch: &Launch<'_>,
    x: View<'_>,
    w: View<'_>,
    inv_temperature: f64,
    out: ViewMut<'_>,
) -> Result<(), OpError> {
    let [b, v] = [x.dims().rows(), w.dims().rows()];
    expect_eights(launch, v)?;
    let mut scores = scores(launch, x, w)?;
    scores.out = launch.start("out", out.view())?;
    if variant::on_warpgroups(launch.cuda) {
        let (name, variant) = match b {
            ..=16 => ("head_logits_bf16_few_wgmma", Variant::FewGroups),
            17..=64 => ("head_logits_bf16_small_wgmma", Variant::SmallGroups),
            _ => ("head_logits_bf16_large_wgmma", Variant::LargeGroups),
        };
        let scores = if variant.turns() { scores } else { scores.turned() };
        let arguments = LogitsArgs { scores, inv_temperature: inv_temperature as f32, padding: 0 };
        let tiles = groups::tiles(&scores, variant);
        return groups::run(launch, (name, variant), tiles, (&scores, &arguments));
    }
    let (tokens, name) =
        if b <= 16 { (16, "head_logits_bf16_few16") } else { (64, "head_logits_bf16_few64") };
    let blocks = [v.div_ceil(TILE) as u32, b.div_ceil(tokens) as u32, 1];
    let arguments = LogitsArgs { scores, inv_temperature: inv_temperature as f32, padding: 0 };
    launch.run_with(name, Grid { blocks, threads: 128, shared: SHARED[0] }, &arguments)
}

impl Scores {
    /// x times w.
    fn turned(self) -> Self {
        Self { a: self.b, b: self.a, ..self }
    }
}

/// A piece of scratch as a tensor of other dims.
fn carve(memory: &mut Tensor, [rows, columns]: [usize; 2]) -> ViewMut<'_> {
    let all = dims![N: memory.dims().count()];
    memory.view_mut().reshape(all).rows(0..rows * columns).reshape(dims![N: rows, C: columns])
}

pub(super) fn token_logprob(
    launch: &Launch<'_>,
    input: HeadInput<'_>,
    scratch: &mut Scratch,
    mut out: Logprobs<'_>,
) -> Result<(), OpError> {
    let [n, _, v] = input.sizes();
    expect_eights(launch, v)?;
    let groups = variant::on_warpgroups(launch.cuda);
    let spans = v.div_ceil(SPAN);
    let numbers = STATISTIC * spans + 1;
    let most = scratch.scores.dims().count() / numbers;
    if most == 0 {
        return Err(too_small(launch, scratch, numbers));
    }
    for start in (0..n).step_by(most) {
        let rows = start..n.min(start + most);
        let statistics = carve(&mut scratch.scores, [rows.len(), numbers]).address();
        let tiles = rows.len().div_ceil(TOKENS);
        let (part, Logprobs { logprob, lse, entropy }) = (input.rows(rows.clone()), out.rows(rows.clone()));
        let scores = scores(launch, part.x, part.w)?;
        let scores = if groups { scores.turned() } else { scores };
        let arguments = TokenLogprobArgs {
            scores,
            targets: part.targets.address(),
            of_target: statistics.offset(4 * STATISTIC * spans * rows.len()),
            parts: statistics,
            tickets: launch.cuda.tickets(if groups {
                tiles * Variant::MediumGroups.tickets()
            } else {
                tiles
            })?,
            logprob: logprob.address(),
            lse: lse.address(),
            entropy: entropy.address(),
            inv_temperature: input.inv_temperature as f32,
            padding: 0,
        };
        if groups {
            let kernel = ("head_token_logprob_bf16_wgmma", Variant::MediumGroups);
            groups::run(launch, kernel, tiles * spans, (&scores, &arguments))?;
        } else {
            let grid = Grid { shared: SHARED[1], ..Grid::row(tiles * spans, 256) };
            launch.run_with("head_token_logprob_bf16", grid, &arguments)?;
        }
    }
    Ok(())
}

fn too_small(launch: &Launch<'_>, scratch: &Scratch, needed: usize) -> OpError {
    launch.refuse(format!(
        "the scratch holds {} numbers, a token needs {needed}",
        scratch.scores.dims().count()
    ))
}

/// How the gradient is cut: tokens whose dx is summed at once, and ids whose dz is in memory at once. Both follow from the
/// scratch and the model alone: a batch of fewer tokens gives the same bits.
#[derive(Clone, Copy)]
struct Cut {
    tokens: usize,
    ids: usize,
}

impl Cut {
    fn new(launch: &Launch<'_>, scratch: &Scratch, c: usize, v: usize) -> Result<Self, OpError> {
        let numbers = scratch.scores.dims().count();
        let least = v.min(product::LEAF);
        let tokens = numbers / c.max(least);
        if tokens == 0 {
            return Err(too_small(launch, scratch, c.max(least)));
        }
        let ids = numbers / tokens;
        Ok(Self { tokens, ids: if ids >= v { v } else { ids / product::LEAF * product::LEAF } })
    }

    /// Neighbouring leaves that fit together; a leaf that fits alone no more is cut from its start.
    fn batches(self, leaves: &Leaves) -> Vec<(Range<usize>, Leaves)> {
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let pieces = leaves.ranges().flat_map(|leaf| {
            let end = leaf.end;
            leaf.step_by(self.tokens).map(move |start| start..end.min(start + self.tokens))
        });
        for piece in pieces {
            match batches.last_mut().filter(|bounds| piece.end - bounds[0] <= self.tokens) {
                Some(bounds) => bounds.push(piece.end),
                None => batches.push(vec![piece.start, piece.end]),
            }
        }
        let batch = |bounds: Vec<usize>| {
            let (start, end) = (bounds[0], bounds[bounds.len() - 1]);
            (start..end, Leaves::new(bounds.iter().map(|bound| bound - start).collect()))
        };
        batches.into_iter().map(batch).collect()
    }
}

pub(super) fn gradient(
    (stream, launch): (&Stream, &Launch<'_>),
    input: HeadInput<'_>,
    coefficients: Coefficients<'_>,
    mut lse: Lse<'_>,
    (leaves, scratch): (&Leaves, &mut Scratch),
    mut out: HeadGradient<'_>,
) -> Result<(), OpError> {
    let [_, c, v] = input.sizes();
    expect_eights(launch, v)?;
    let cut = Cut::new(launch, scratch, c, v)?;
    if let Lse::Fresh(logprobs) = &mut lse {
        token_logprob(launch, input, scratch, logprobs.reborrow())?;
    }
    for (rows, leaves) in cut.batches(leaves) {
        let batch = Batch {
            launch,
            input: input.rows(rows.clone()),
            coefficients: coefficients.rows(rows.clone()),
            lse: lse.rows(rows.clone()).addresses(),
        };
        let out =
            HeadGradient { dx: out.dx.reborrow().rows(rows), dw: out.dw.as_mut().map(ViewMut::reborrow) };
        batch.gradient(stream, cut.ids, (&leaves, scratch), out)?;
    }
    Ok(())
}

impl Lse<'_> {
    /// Of the LSE and the entropy.
    fn addresses(&self) -> [Address; 2] {
        match self {
            Self::Stored { lse, entropy } => [lse.address(), entropy.address()],
            Self::Fresh(Logprobs { lse, entropy, .. }) => [lse.address(), entropy.address()],
        }
    }
}

/// Tokens whose gradient is found over all ids, some ids at a time.
struct Batch<'a> {
    launch: &'a Launch<'a>,
    input: HeadInput<'a>,
    coefficients: Coefficients<'a>,
    lse: [Address; 2],
}

impl Batch<'_> {
    fn gradient(
        &self,
        stream: &Stream,
        ids: usize,
        (leaves, scratch): (&Leaves, &mut Scratch),
        mut out: HeadGradient<'_>,
    ) -> Result<(), OpError> {
        let [n, c, v] = self.input.sizes();
        let Scratch { scores, narrow } = scratch;
        let narrow = narrow.as_mut().expect("scores of bf16 have a gradient of their own dtype");
        for first in (0..v).step_by(ids) {
            let chunk = first..v.min(first + ids);
            let mut dz = carve(narrow, [n, chunk.len()]);
            self.score_gradient(&chunk, dz.reborrow())?;
            let w = self.input.w.rows(chunk.clone());
            if ids == v {
                product::backward_input(stream, dz.view(), w, out.dx.reborrow(), Write::Set)?;
            } else {
                let write = if first == 0 { Write::Set } else { Write::Add };
                product::backward_input(stream, dz.view(), w, carve(scores, [n, c]), write)?;
            }
            if let Some(dw) = &mut out.dw {
                let dw = dw.reborrow().rows(chunk);
                product::backward_weight(stream, dz.view(), self.input.x, leaves, dw)?;
            }
        }
        if ids == v { Ok(()) } else { self.narrow(carve(scores, [n, c]).view(), out.dx) }
    }

    /// dz of some ids for all tokens.
    fn score_gradient(&self, ids: &Range<usize>, dz: ViewMut<'_>) -> Result<(), OpError> {
        let HeadInput { x, w, targets, inv_temperature } = self.input;
        let mut scores = scores(self.launch, x, w.rows(ids.clone()))?;
        scores.out = self.launch.start("dz", dz.view())?;
        scores.out_stride = ids.len() as i32;
        let groups = variant::on_warpgroups(self.launch.cuda);
        let scores = if groups { scores.turned() } else { scores };
        let arguments = GradientArgs {
            scores,
            targets: targets.address(),
            dlogprob: self.coefficients.dlogprob.address(),
            dentropy: self.coefficients.dentropy.map_or(Address(0), View::address),
            lse: self.lse[0],
            entropy: self.lse[1],
            first_id: ids.start as i32,
            inv_temperature: inv_temperature as f32,
        };
        if groups {
            let tiles = groups::tiles(&scores, Variant::LargeGroups);
            let kernel = ("head_gradient_bf16_wgmma", Variant::LargeGroups);
            return groups::run(self.launch, kernel, tiles, (&scores, &arguments));
        }
        let tiles = x.dims().rows().div_ceil(TOKENS) * ids.len().div_ceil(TILE);
        self.launch.run_with(
            "head_gradient_bf16",
            Grid { shared: SHARED[1], ..Grid::row(tiles, 256) },
            &arguments,
        )
    }

    /// The finished sum over ids, in storage.
    fn narrow(&self, sum: View<'_>, dx: ViewMut<'_>) -> Result<(), OpError> {
        let count = dx.dims().count() as u64;
        let (sum, dx) = (sum.address(), self.launch.start("dx", dx.view())?);
        let grid = Grid::row(count.div_ceil(2048) as usize, 256);
        self.launch.run("head_narrow_bf16", grid, &[bytes_of(&sum), bytes_of(&dx), bytes_of(&count)])
    }
}
