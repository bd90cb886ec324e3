use std::mem::offset_of;

use bytemuck::{Pod, Zeroable, bytes_of};

use super::super::kv_append::PoolShape;
use super::super::{OpError, expect_dtype};
use super::checks::Shape;
use super::{Backward, Keys, Span, layout};
use crate::device::{Address, Cuda, Grid, Kernel};
use crate::tensor::{DType, View, ViewMut};

/// `attention::ForwardArgs` of `kernels/attention_forward.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct ForwardArgs {
    q: Address,
    k: Address,
    v: Address,
    out: Address,
    lse: Address,
    items: Address,
    map: Address,
    partial: Address,
    tickets: Address,
    heads: i32,
    kv_heads: i32,
    scale: f32,
    unused: i32,
}
const _: () = assert!(size_of::<ForwardArgs>() == 88 && offset_of!(ForwardArgs, heads) == 72);

/// `attention::BackwardArgs` of `kernels/attention_backward.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct BackwardArgs {
    dout: Address,
    q: Address,
    k: Address,
    v: Address,
    out: Address,
    lse: Address,
    statistics: Address,
    dq: Address,
    dk: Address,
    dv: Address,
    query_items: Address,
    key_items: Address,
    readers: Address,
    map: Address,
    rows: i32,
    heads: i32,
    kv_heads: i32,
    scale: f32,
}
const _: () = assert!(size_of::<BackwardArgs>() == 128 && offset_of!(BackwardArgs, rows) == 112);

/// A line of the table in `kernels/attention_forward.cu`.
#[derive(Clone, Copy, Debug)]
enum Variant {
    Packed,
    Paged,
    Few,
}

impl Variant {
    fn kernel(self, d: usize) -> Kernel {
        let names = match self {
            Self::Packed => [
                "attention_forward_bf16_packed_d16",
                "attention_forward_bf16_packed_d32",
                "attention_forward_bf16_packed_d64",
                "attention_forward_bf16_packed_d128",
            ],
            Self::Paged => [
                "attention_forward_bf16_paged_d16",
                "attention_forward_bf16_paged_d32",
                "attention_forward_bf16_paged_d64",
                "attention_forward_bf16_paged_d128",
            ],
            Self::Few => [
                "attention_forward_bf16_few_d16",
                "attention_forward_bf16_few_d32",
                "attention_forward_bf16_few_d64",
                "attention_forward_bf16_few_d128",
            ],
        };
        Kernel { stem: "attention_forward", name: names[size_index(d)] }
    }

    /// Rows of a tile.
    fn rows(self) -> usize {
        if matches!(self, Self::Few) { 16 } else { 64 }
    }

    /// Warps that divide the columns of v.
    fn column_warps(self, d: usize) -> usize {
        if matches!(self, Self::Few) { (d / 16).min(4) } else { 1 }
    }

    fn threads(self, d: usize) -> usize {
        2 * self.rows() * self.column_warps(d)
    }

    /// Bytes: a tile of queries, two of keys, two of values.
    fn shared(self, d: usize) -> usize {
        2 * d * (self.rows() + 4 * 64)
    }

    /// Bytes that a chunk of one key head leaves in memory.
    fn partial(self, d: usize) -> usize {
        4 * self.threads(d) * (4 + d / self.column_warps(d) / 2)
    }
}

/// Which of the kernels for 16, 32, 64 and 128 dims.
fn size_index(d: usize) -> usize {
    d.trailing_zeros() as usize - 4
}

/// Everything of a launch but its lists.
pub(super) struct Launch<'a> {
    pub(super) op: &'static str,
    pub(super) cuda: &'a Cuda,
    pub(super) shape: Shape,
}

impl Launch<'_> {
    /// `rows`: of a tile, which a query's heads of one key head have to share.
    fn check(&self, dtype: DType, rows: usize) -> Result<(), OpError> {
        let Shape { d, group, .. } = self.shape;
        expect_dtype(self.op, "q", dtype, DType::BF16)?;
        let refused = |reason| Err(OpError::Argument { op: self.op, reason });
        if ![16, 32, 64, 128].contains(&d) {
            return refused(format!("heads of {d} dims: GPUs have kernels for 16, 32, 64 and 128"));
        }
        if group > rows {
            return refused(format!(
                "{group} query heads to a key head: GPUs have kernels for at most {rows}"
            ));
        }
        Ok(())
    }

    fn grid(&self, items: usize, threads: usize, shared: usize) -> Grid {
        let kv_heads = u32::try_from(self.shape.kv_heads).expect("heads fit u32");
        let shared = u32::try_from(shared).expect("tiles are small");
        let mut grid = Grid::row(items, u32::try_from(threads).expect("blocks are small"));
        (grid.blocks[1], grid.shared) = (kv_heads, shared);
        grid
    }

    fn heads(&self) -> ([i32; 2], f32) {
        let Shape { heads, kv_heads, d, .. } = self.shape;
        ([heads, kv_heads].map(|x| i32::try_from(x).expect("heads fit i32")), 1.0 / (d as f32).sqrt())
    }

    pub(super) fn forward(
        &self,
        (q, keys): (View<'_>, Keys<'_>),
        spans: &[Span],
        (out, lse): (ViewMut<'_>, ViewMut<'_>),
    ) -> Result<(), OpError> {
        self.check(q.dtype(), Variant::Packed.rows())?;
        let [k, v] = self.key_memory(keys)?;
        let ([heads, kv_heads], scale) = self.heads();
        let args = ForwardArgs {
            q: q.address(),
            k,
            v,
            out: out.address(),
            lse: lse.address(),
            heads,
            kv_heads,
            scale,
            ..ForwardArgs::zeroed()
        };
        if let Keys::Packed { .. } = keys {
            return self.forward_spans(Variant::Packed, spans, |_| true, args);
        }
        let few = |span: &Span| span.queries.len() * self.shape.group <= Variant::Few.rows();
        self.forward_spans(Variant::Few, spans, few, args)?;
        self.forward_spans(Variant::Paged, spans, |span| !few(span), args)
    }

    /// Where the first element of key head 0 of keys and of values lies.
    fn key_memory(&self, keys: Keys<'_>) -> Result<[Address; 2], OpError> {
        match keys {
            Keys::Packed { k, v } => Ok([k.address(), v.address()]),
            Keys::Paged { pool, layer } => {
                let shape = PoolShape::of(self.op, pool.dims(), layer)?;
                Ok([0, 1].map(|pair| pool.address().offset(DType::BF16.size() * shape.offset(0, pair))))
            }
        }
    }

    fn forward_spans(
        &self,
        variant: Variant,
        spans: &[Span],
        takes: impl Fn(&Span) -> bool,
        args: ForwardArgs,
    ) -> Result<(), OpError> {
        let Shape { kv_heads, group, d, .. } = self.shape;
        let layout = layout::Forward::of(spans, kv_heads, (variant.rows() / group).max(1), takes);
        if layout.items.is_empty() {
            return Ok(());
        }
        let kernel = variant.kernel(d);
        let words = [layout.items.as_flattened(), &layout.map].concat();
        let items = self.cuda.list(kernel.name, &words)?;
        let mut args = ForwardArgs { items, map: items.offset(size_of_val(&layout.items[..])), ..args };
        if layout.slots > 0 {
            args.partial = self.cuda.scratch(layout.slots * kv_heads * variant.partial(d))?;
            args.tickets = self.cuda.tickets(layout.slots * kv_heads)?;
        }
        let grid = self.grid(layout.items.len(), variant.threads(d), variant.shared(d));
        Ok(self.cuda.launch(kernel, grid, &[bytes_of(&args)])?)
    }

    pub(super) fn backward(
        &self,
        inputs: Backward<'_>,
        [dq, dk, dv]: [ViewMut<'_>; 3],
    ) -> Result<(), OpError> {
        let Shape { n, heads, group, d, .. } = self.shape;
        let (query_rows, key_rows) = (64, if d < 128 { 64 } else { 32 });
        self.check(inputs.q.dtype(), key_rows)?;
        let layout = layout::Backward::of(inputs.spans, query_rows / group);
        if n == 0 {
            return Ok(());
        }
        let args = self.backward_args(inputs, [dq, dk, dv], &layout)?;
        let [statistics, queries, keys] = backward_kernels(d);
        let launch = |kernel, grid| self.cuda.launch(kernel, grid, &[bytes_of(&args)]);
        launch(statistics, Grid::row((n * heads).div_ceil(2048 / d), 256))?;
        launch(queries, self.grid(layout.query_items.len(), 128, 768 * d))?;
        let shared = 256 * d + key_rows * (8 * d + 32);
        Ok(launch(keys, self.grid(layout.key_items.len(), 128, shared))?)
    }

    fn backward_args(
        &self,
        inputs: Backward<'_>,
        [dq, dk, dv]: [ViewMut<'_>; 3],
        layout: &layout::Backward,
    ) -> Result<BackwardArgs, OpError> {
        let Backward { dout, q, k, v, out, lse, .. } = inputs;
        let rows = self.shape.n * self.shape.heads;
        let lists = [
            layout.query_items.as_flattened(),
            layout.key_items.as_flattened(),
            layout.readers.as_flattened(),
            &layout.map,
        ];
        let mut at = self.cuda.list("attention_backward", &lists.concat())?;
        let [query_items, key_items, readers, map] = lists.map(|list| {
            let here = at;
            at = at.offset(size_of_val(list));
            here
        });
        let ([heads, kv_heads], scale) = self.heads();
        let [dout, q, k, v, out, lse] = [dout, q, k, v, out, lse].map(View::address);
        let statistics = self.cuda.scratch(16 * rows)?;
        let [dq, dk, dv] = [dq, dk, dv].map(|view| view.address());
        let rows = i32::try_from(rows).expect("rows of a batch fit i32");
        Ok(BackwardArgs {
            dout,
            q,
            k,
            v,
            out,
            lse,
            statistics,
            dq,
            dk,
            dv,
            query_items,
            key_items,
            readers,
            map,
            rows,
            heads,
            kv_heads,
            scale,
        })
    }
}

/// In the order of their launches.
fn backward_kernels(d: usize) -> [Kernel; 3] {
    let names = [
        [
            "attention_backward_bf16_statistics_d16",
            "attention_backward_bf16_statistics_d32",
            "attention_backward_bf16_statistics_d64",
            "attention_backward_bf16_statistics_d128",
        ],
        [
            "attention_backward_bf16_queries_d16",
            "attention_backward_bf16_queries_d32",
            "attention_backward_bf16_queries_d64",
            "attention_backward_bf16_queries_d128",
        ],
        [
            "attention_backward_bf16_keys_d16",
            "attention_backward_bf16_keys_d32",
            "attention_backward_bf16_keys_d64",
            "attention_backward_bf16_keys_d128",
        ],
    ];
    names.map(|names| Kernel { stem: "attention_backward", name: names[size_index(d)] })
}
