use std::mem::offset_of;

use bytemuck::{Pod, Zeroable, bytes_of};

use super::super::boxes::{Side, Stored};
use super::super::{Leaves, OpError, Write, expect_dtype};
use super::variant::{self, Choice, Extents, LEAF, Names};
use crate::device::{Address, Cuda, EncodedMap, Grid, Kernel};
use crate::tensor::{DType, View, ViewMut};

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

/// One product on its way to a device.
struct Product<'a> {
    op: &'static str,
    cuda: &'a Cuda,
    choice: Choice,
    names: Names,
    /// Row lengths that copies of 16 bytes must divide: name and elements.
    lengths: [(&'static str, usize); 2],
    /// How a and b lie in memory.
    stored: [Stored; 2],
}

pub(super) fn forward(
    op: &'static str,
    cuda: &Cuda,
    [x, w]: [View<'_>; 2],
    y: ViewMut<'_>,
    write: Write,
) -> Result<(), OpError> {
    let ((n, k), (m, _)) = (super::matrix(x), super::matrix(w));
    let choice = variant::of_forward(cuda, Extents { rows: n, columns: m, depth: k });
    let (names, lengths, stored) = (variant::forward_name as Names, [("K", k), ("M", m)], [Stored::Along; 2]);
    let product = Product { op, cuda, choice, names, lengths, stored };
    let (x, w) = (operand(x, n), operand(w, m));
    let (a, b) = if choice.variant.turns() { (w, x) } else { (x, w) };
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
    let choice = variant::of_backward_input(cuda, Extents { rows: n, columns: k, depth: m });
    let (names, lengths) = (variant::backward_input_name as Names, [("M", m), ("K", k)]);
    let product = Product { op, cuda, choice, names, lengths, stored: [Stored::Along, Stored::Across] };
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
    let choice = variant::of_backward_weight(cuda, Extents { rows: m, columns: k, depth: n });
    let (names, lengths) = (variant::backward_weight_name as Names, [("M", m), ("K", k)]);
    let product = Product { op, cuda, choice, names, lengths, stored: [Stored::Across; 2] };
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

fn int(x: usize) -> i32 {
    i32::try_from(x).expect("sides of a matrix fit i32")
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
        let &Self { op, cuda, choice: Choice { variant, split }, .. } = self;
        self.check(&out)?;
        let sides = Extents { rows: a.extent as usize, columns: b.extent as usize, depth };
        if sides.rows == 0 || sides.columns == 0 || (depth == 0 && write == Write::Add) {
            return Ok(());
        }
        let ([rows, columns], ..) = variant.tile();
        let tiles = variant.tiles(sides);
        let leaves = if bounds.is_empty() { depth.div_ceil(LEAF) } else { bounds.len() - 1 };
        let (mut partial, mut tickets) = (Address(0), Address(0));
        if split {
            partial = cuda.scratch(4 * tiles * leaves * rows * columns)?;
            tickets = cuda.tickets(tiles * variant.tickets())?;
        }
        let given = if bounds.is_empty() { Address(0) } else { cuda.list(op, bounds)? };
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
        if variant.by_warpgroups() {
            return self.on_warpgroups(kernel, &args, int(tiles * if split { leaves } else { 1 }));
        }
        let (_, threads, shared) = variant.tile();
        let blocks = [int(tiles) as u32, if split { int(leaves) as u32 } else { 1 }, 1];
        Ok(cuda.launch(kernel, Grid { blocks, threads, shared }, &[bytes_of(&args)])?)
    }

    /// Blocks that stay, each for some of the items, and fetch boxes of both operands.
    fn on_warpgroups(&self, kernel: Kernel, args: &Args, items: i32) -> Result<(), OpError> {
        let ([rows, columns], threads, shared) = self.choice.variant.tile();
        let boxes = |operand: Operand, stored, tile| -> Result<EncodedMap, OpError> {
            let Operand { data: at, stride, extent } = operand;
            let side = Side { at, stride: stride as u64, extent: extent as u64, stored };
            side.boxes(self.op, self.cuda, [args.depth as usize, tile])
        };
        let a = boxes(args.a, self.stored[0], rows)?;
        let b = boxes(args.b, self.stored[1], columns)?;
        let blocks = [self.cuda.driver().multiprocessors().min(items as u32), 1, 1];
        let arguments = [bytes_of(args), bytes_of(&a), bytes_of(&b)];
        Ok(self.cuda.launch(kernel, Grid { blocks, threads, shared }, &arguments)?)
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
