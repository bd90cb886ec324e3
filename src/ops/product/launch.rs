use std::mem::offset_of;

use bytemuck::{Pod, Zeroable, bytes_of};

use super::super::{Leaves, OpError, Write, expect_dtype};
use crate::device::{Address, Cuda, Grid, Kernel};
use crate::tensor::{DType, View, ViewMut};

/// Depth that is summed from zero: `product::LEAF` of `kernels/product.cuh`.
const LEAF: usize = 1024;

/// Blocks that keep every SM of a large GPU busy: fewer are split over leaves, or take smaller tiles.
const BUSY: usize = 264;

/// `product::Operand`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Operand {
    data: Address,
    stride: i64,
    extent: i64,
}

/// `product::Args`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Args {
    a: Operand,
    b: Operand,
    out: Address,
    partial: Address,
    tickets: Address,
    bounds: Address,
    depth: i32,
    leaves: i32,
    out_stride: i32,
    add: i32,
}
const _: () = assert!(size_of::<Operand>() == 24 && size_of::<Args>() == 96);
const _: () = assert!(offset_of!(Args, out) == 48 && offset_of!(Args, depth) == 80);

/// A line of the table in `kernels/product.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Large,
    Wgmma,
    Medium,
    Few64,
    Few16,
}

impl Variant {
    /// Rows and columns of c in a tile, threads, and bytes of shared memory.
    fn tile(self) -> ([usize; 2], u32, u32) {
        match self {
            Self::Large => ([128, 128], 256, 98304),
            Self::Wgmma => ([128, 128], 256, 131_072),
            Self::Medium | Self::Few64 => ([64, 64], 128, 65536),
            Self::Few16 => ([64, 16], 128, 61440),
        }
    }

    /// Whether weights stand on the mma's M, and c is turned.
    fn turns(self) -> bool {
        matches!(self, Self::Few64 | Self::Few16)
    }

    fn of_forward(cuda: &Cuda, n: usize, m: usize) -> Self {
        match n {
            ..=16 => Self::Few16,
            17..=64 => Self::Few64,
            _ if n.div_ceil(128) * m.div_ceil(128) < BUSY / 2 => Self::Medium,
            _ if cuda.capability()[0] == 9 => Self::Wgmma,
            _ => Self::Large,
        }
    }

    fn of_backward(rows: usize, columns: usize) -> Self {
        if rows.div_ceil(128) * columns.div_ceil(128) < BUSY / 2 { Self::Medium } else { Self::Large }
    }
}

/// The names of a direction's kernels.
type Names = fn(Variant, DType) -> &'static str;

fn forward_name(variant: Variant, out: DType) -> &'static str {
    let bf16 = out == DType::BF16;
    match variant {
        Variant::Large if bf16 => "product_forward_bf16_large",
        Variant::Wgmma if bf16 => "product_forward_bf16_wgmma",
        Variant::Medium if bf16 => "product_forward_bf16_medium",
        Variant::Few64 if bf16 => "product_forward_bf16_few64",
        Variant::Few16 if bf16 => "product_forward_bf16_few16",
        Variant::Large => "product_forward_f32_large",
        Variant::Wgmma => "product_forward_f32_wgmma",
        Variant::Medium => "product_forward_f32_medium",
        Variant::Few64 => "product_forward_f32_few64",
        Variant::Few16 => "product_forward_f32_few16",
    }
}

fn backward_input_name(variant: Variant, out: DType) -> &'static str {
    match (variant, out) {
        (Variant::Large, DType::BF16) => "product_backward_input_bf16_large",
        (_, DType::BF16) => "product_backward_input_bf16_medium",
        (Variant::Large, _) => "product_backward_input_f32_large",
        _ => "product_backward_input_f32_medium",
    }
}

fn backward_weight_name(variant: Variant, _: DType) -> &'static str {
    if variant == Variant::Large {
        "product_backward_weight_f32_large"
    } else {
        "product_backward_weight_f32_medium"
    }
}

/// One product on its way to a device.
struct Product<'a> {
    op: &'static str,
    cuda: &'a Cuda,
    variant: Variant,
    names: Names,
    /// Row lengths that copies of 16 bytes must divide: name and elements.
    lengths: [(&'static str, usize); 2],
}

pub(super) fn forward(
    op: &'static str,
    cuda: &Cuda,
    [x, w]: [View<'_>; 2],
    y: ViewMut<'_>,
    write: Write,
) -> Result<(), OpError> {
    let ((n, k), (m, _)) = (super::matrix(x), super::matrix(w));
    let variant = Variant::of_forward(cuda, n, m);
    let product = Product { op, cuda, variant, names: forward_name, lengths: [("K", k), ("M", m)] };
    let (x, w) = (operand(x, n), operand(w, m));
    let (a, b) = if variant.turns() { (w, x) } else { (x, w) };
    product.launch(a, b, (k, &[]), (y, m, write))
}

pub(super) fn backward_input(
    op: &'static str,
    cuda: &Cuda,
    [dy, w]: [View<'_>; 2],
    dx: ViewMut<'_>,
    write: Write,
) -> Result<(), OpError> {
    let ((n, m), (_, k)) = (super::matrix(dy), super::matrix(w));
    let variant = Variant::of_backward(n, k);
    let product = Product { op, cuda, variant, names: backward_input_name, lengths: [("M", m), ("K", k)] };
    product.launch(operand(dy, n), operand(w, k), (m, &[]), (dx, k, write))
}

pub(super) fn backward_weight(
    op: &'static str,
    cuda: &Cuda,
    [dy, x]: [View<'_>; 2],
    leaves: &Leaves,
    dw: ViewMut<'_>,
) -> Result<(), OpError> {
    let ((n, m), (_, k)) = (super::matrix(dy), super::matrix(x));
    expect_dtype(op, "dw", dw.dtype(), DType::F32)?;
    let variant = Variant::of_backward(m, k);
    let product = Product { op, cuda, variant, names: backward_weight_name, lengths: [("M", m), ("K", k)] };
    let mut bounds = vec![0];
    let ends = leaves.ranges().filter(|leaf| !leaf.is_empty()).map(|leaf| leaf.end);
    bounds.extend(ends.map(|end| u32::try_from(end).expect("positions of a batch fit u32")));
    product.launch(operand(dy, m), operand(x, k), (n, &bounds), (dw, k, Write::Add))
}

/// A matrix whose rows are contiguous; `extent` is the side that c has, too.
fn operand(x: View<'_>, extent: usize) -> Operand {
    let stride = x.dims().row_len() as i64;
    Operand { data: x.address(), stride, extent: extent as i64 }
}

impl Product<'_> {
    /// `bounds`: of the given leaves; none: the depth's own.
    fn launch(
        &self,
        a: Operand,
        b: Operand,
        (depth, bounds): (usize, &[u32]),
        (out, out_stride, write): (ViewMut<'_>, usize, Write),
    ) -> Result<(), OpError> {
        let &Self { op, cuda, variant, .. } = self;
        self.check(&out)?;
        if a.extent == 0 || b.extent == 0 {
            return Ok(());
        }
        let ([rows, columns], threads, shared) = variant.tile();
        let tiles = (a.extent as usize).div_ceil(rows) * (b.extent as usize).div_ceil(columns);
        let leaves = if bounds.is_empty() { depth.div_ceil(LEAF) } else { bounds.len() - 1 };
        let split = bounds.is_empty() && leaves > 1 && tiles < BUSY;
        let (mut partial, mut tickets) = (Address(0), Address(0));
        if split {
            partial = cuda.scratch(4 * tiles * leaves * rows * columns)?;
            tickets = cuda.tickets(tiles)?;
        }
        let given = if bounds.is_empty() { Address(0) } else { cuda.list(op, bounds)? };
        let int = |x: usize| i32::try_from(x).expect("sides of a matrix fit i32");
        let args = Args {
            a,
            b,
            out: out.address(),
            partial,
            tickets,
            bounds: given,
            depth: int(depth),
            leaves: int(leaves),
            out_stride: int(out_stride),
            add: i32::from(write == Write::Add),
        };
        let kernel = Kernel { stem: "product", name: (self.names)(variant, out.dtype()) };
        let blocks = [int(tiles) as u32, if split { int(leaves) as u32 } else { 1 }, 1];
        Ok(cuda.launch(kernel, Grid { blocks, threads, shared }, &[bytes_of(&args)])?)
    }

    fn check(&self, out: &ViewMut<'_>) -> Result<(), OpError> {
        if out.dtype() != DType::F32 {
            expect_dtype(self.op, "output", out.dtype(), DType::BF16)?;
        }
        match self.lengths.iter().find(|(_, length)| length % 8 != 0) {
            None => Ok(()),
            Some((name, length)) => {
                let reason = format!("{name} is {length}: on a GPU it is a multiple of 8");
                Err(OpError::Argument { op: self.op, reason })
            }
        }
    }
}
