use std::mem::offset_of;

use bytemuck::{Pod, Zeroable, bytes_of};

use super::Backward;
use crate::device::{Address, Cuda, Grid};
use crate::ops::launch::Launch;
use crate::ops::leaf_sums::LeafTable;
use crate::ops::{OpError, Write};
use crate::tensor::{View, ViewMut};

const STEM: &str = "rms_norm";

/// `NormForward` in `kernels/rms_norm.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ForwardArguments {
    x: Address,
    gain: Address,
    y: Address,
    rstd: Address,
    rows: u32,
    columns: u32,
    eps: f32,
    padding: u32,
}

const _: () = assert!(
    size_of::<ForwardArguments>() == 48
        && offset_of!(ForwardArguments, rows) == 32
        && offset_of!(ForwardArguments, eps) == 40
);

/// `NormBackward` in `kernels/rms_norm.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct BackwardArguments {
    dy: Address,
    x: Address,
    gain: Address,
    rstd: Address,
    dx: Address,
    chunk_sums: Address,
    columns: u32,
    add: u32,
}

const _: () = assert!(size_of::<BackwardArguments>() == 56 && offset_of!(BackwardArguments, columns) == 48);

/// The kernels for rows of up to so many columns, and how they deal a row to threads.
struct Variant {
    longest: u32,
    forward: &'static str,
    backward: &'static str,
    threads: u32,
    lanes: u32,
}

const VARIANTS: [Variant; 7] = [
    variant(64, ["rms_norm_forward_bf16_64", "rms_norm_backward_bf16_64"], 128, 8),
    variant(128, ["rms_norm_forward_bf16_128", "rms_norm_backward_bf16_128"], 128, 16),
    variant(256, ["rms_norm_forward_bf16_256", "rms_norm_backward_bf16_256"], 128, 32),
    variant(1024, ["rms_norm_forward_bf16_1024", "rms_norm_backward_bf16_1024"], 128, 128),
    variant(2048, ["rms_norm_forward_bf16_2048", "rms_norm_backward_bf16_2048"], 256, 256),
    variant(4096, ["rms_norm_forward_bf16_4096", "rms_norm_backward_bf16_4096"], 256, 256),
    variant(8192, ["rms_norm_forward_bf16_8192", "rms_norm_backward_bf16_8192"], 512, 512),
];

const fn variant(longest: u32, [forward, backward]: [&'static str; 2], threads: u32, lanes: u32) -> Variant {
    Variant { longest, forward, backward, threads, lanes }
}

impl Variant {
    fn of(launch: &Launch<'_>, columns: u32) -> Result<&'static Self, OpError> {
        let [.., last] = &VARIANTS;
        let reason = || format!("rows of {columns}: the longest kernel takes {}", last.longest);
        VARIANTS.iter().find(|v| columns <= v.longest).ok_or_else(|| launch.refuse(reason()))
    }

    /// Rows that a block has side by side.
    fn side(&self) -> u32 {
        self.threads / self.lanes
    }

    /// Rows of a forward block.
    fn forward_rows(&self) -> u32 {
        if self.lanes <= 32 { 4 * self.side() } else { 1 }
    }

    /// Rows of a backward block.
    fn chunk_rows(&self) -> u32 {
        if self.lanes <= 32 { 16 * self.side() } else { 32 }
    }
}

pub(super) fn forward(
    launch: &Launch<'_>,
    [x, gain]: [View<'_>; 2],
    eps: f64,
    [y, rstd]: [ViewMut<'_>; 2],
) -> Result<(), OpError> {
    launch.expect_bf16("x", x)?;
    launch.pieces_of_row("x", x)?;
    let (rows, columns) = (x.dims().rows(), x.dims().row_len());
    let (rows, columns) = (launch.count("rows", rows)?, launch.count("columns", columns)?);
    let variant = Variant::of(launch, columns)?;
    let arguments = ForwardArguments {
        x: x.address(),
        gain: launch.start("gain", gain)?,
        y: launch.start("y", y.view())?,
        rstd: rstd.address(),
        rows,
        columns,
        eps: eps as f32,
        padding: 0,
    };
    let blocks = rows.div_ceil(variant.forward_rows()) as usize;
    launch.run_with(variant.forward, Grid::row(blocks, variant.threads), &arguments)
}

pub(super) fn backward(
    launch: &Launch<'_>,
    inputs: Backward<'_>,
    (dx, write): (ViewMut<'_>, Write),
    dgain: Option<ViewMut<'_>>,
) -> Result<(), OpError> {
    let Backward { dy, x, gain, rstd, leaves } = inputs;
    launch.expect_bf16("x", x)?;
    for (tensor, view) in [("x", x), ("dy", dy), ("dx", dx.view())] {
        launch.pieces_of_row(tensor, view)?;
    }
    let columns = launch.count("columns", x.dims().row_len())?;
    let variant = Variant::of(launch, columns)?;
    let mut arguments = BackwardArguments {
        dy: dy.address(),
        x: x.address(),
        gain: launch.start("gain", gain)?,
        rstd: rstd.address(),
        dx: dx.address(),
        chunk_sums: Address(0),
        columns,
        add: u32::from(write == Write::Add),
    };
    for table in LeafTable::all(launch, leaves, variant.chunk_rows())? {
        let grid = Grid::row(table.chunks(), variant.threads);
        if dgain.is_some() {
            arguments.chunk_sums = table.room(launch, columns as usize)?;
        }
        launch.run(variant.backward, grid, &[bytes_of(&arguments), bytes_of(&table)])?;
        if let Some(dgain) = &dgain {
            let [sums, total] = [arguments.chunk_sums, dgain.address()];
            table.add(launch, "rms_norm_gain_sums_f32", [sums, total], columns)?;
        }
    }
    Ok(())
}

pub(super) fn of<'a>(op: &'static str, cuda: &'a Cuda) -> Launch<'a> {
    Launch { op, stem: STEM, cuda }
}
