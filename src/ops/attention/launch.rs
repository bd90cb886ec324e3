use std::mem::offset_of;

use bytemuck::{Pod, Zeroable, bytes_of};

use super::super::kv_append::{BLOCK, PoolShape};
use super::super::{OpError, expect_dtype};
use super::checks::Shape;
use super::variant::{BackwardVariant, Core, Form, Variant};
use super::{Backward, Keys, Span, layout};
use crate::device::{Address, Cuda, DeviceError, EncodedMap, Grid, Swizzle, TensorMap};
use crate::tensor::{DType, View, ViewMut};

/// `attention::ForwardArgs` of `kernels/attention_forward.cuh`.
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
    items_count: i32,
}
const _: () = assert!(size_of::<ForwardArgs>() == 88 && offset_of!(ForwardArgs, heads) == 72);

/// `attention::BackwardArgs` of `kernels/attention_backward.cuh`.
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
        self.check(q.dtype(), 64)?;
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
        let variant = |form| Variant { form, core: Core::of(self.cuda, self.shape.d), d: self.shape.d };
        if let Keys::Packed { .. } = keys {
            return self.forward_spans(variant(Form::Packed), (keys, spans), |_| true, args);
        }
        let [few_rows, rows] = [Form::Few, Form::Paged].map(|form| variant(form).rows());
        let few = |span: &Span| few_rows < rows && span.queries.len() * self.shape.group <= few_rows;
        self.forward_spans(variant(Form::Few), (keys, spans), few, args)?;
        self.forward_spans(variant(Form::Paged), (keys, spans), |span| !few(span), args)
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
        (keys, spans): (Keys<'_>, &[Span]),
        takes: impl Fn(&Span) -> bool,
        args: ForwardArgs,
    ) -> Result<(), OpError> {
        let Shape { kv_heads, group, .. } = self.shape;
        let at_once = self.cuda.driver().multiprocessors() as usize;
        let busy = if variant.core == Core::Warp { 4 * at_once } else { at_once };
        let layout = layout::Forward::of(spans, kv_heads, [(variant.rows() / group).max(1), busy], takes);
        if layout.items.is_empty() {
            return Ok(());
        }
        let kernel = variant.kernel();
        let words = [layout.items.as_flattened(), &layout.map].concat();
        let items = self.cuda.list(kernel.name, &words)?;
        let map = items.offset(size_of_val(&layout.items[..]));
        let items_count = i32::try_from(layout.items.len()).expect("tiles of a batch fit i32");
        let mut args = ForwardArgs { items, map, items_count, ..args };
        if layout.slots > 0 {
            args.partial = self.cuda.scratch(layout.slots * kv_heads * variant.partial())?;
            args.tickets = self.cuda.tickets(layout.slots * kv_heads * variant.tickets())?;
        }
        let mut grid = self.grid(layout.items.len(), variant.threads(), variant.shared());
        if variant.core == Core::Warp {
            return Ok(self.cuda.launch(kernel, grid, &[bytes_of(&args)])?);
        }
        let tiles = layout.items.len() * kv_heads;
        grid.blocks = [u32::try_from(tiles.min(at_once)).expect("a GPU has fewer"), 1, 1];
        let [k, v] = self.key_maps(keys, [args.k, args.v])?;
        Ok(self.cuda.launch(kernel, grid, &[bytes_of(&args), bytes_of(&k), bytes_of(&v)])?)
    }

    /// Keys and values as matrices in boxes of 64 rows and 64 columns.
    fn key_maps(&self, keys: Keys<'_>, at: [Address; 2]) -> Result<[EncodedMap; 2], OpError> {
        let Shape { n, kv_heads, d, .. } = self.shape;
        let [rows, columns] = match keys {
            Keys::Packed { .. } => [n, kv_heads * d].map(|x| [x; 2]),
            Keys::Paged { pool, .. } => {
                let rows = pool.dims().count() / pool.dims().axes()[0].1 / d;
                [[rows, rows - kv_heads * BLOCK], [d; 2]]
            }
        };
        let map = |i: usize| {
            self.cuda.driver().tensor_map(&TensorMap {
                at: at[i],
                extent: &[columns[i] as u64, rows[i] as u64],
                stride: &[(DType::BF16.size() * columns[i]) as u64],
                shape: &[64, 64],
                swizzle: Swizzle::Bytes128,
            })
        };
        let refused = |error| OpError::from(DeviceError::from(error));
        Ok([map(0).map_err(refused)?, map(1).map_err(refused)?])
    }

    pub(super) fn backward(
        &self,
        inputs: Backward<'_>,
        [dq, dk, dv]: [ViewMut<'_>; 3],
    ) -> Result<(), OpError> {
        let Shape { n, heads, group, d, .. } = self.shape;
        let variant = BackwardVariant { core: Core::of(self.cuda, d), d };
        self.check(inputs.q.dtype(), variant.readers())?;
        let layout = layout::Backward::of(inputs.spans, [variant.tile() / group, variant.tile()]);
        if n == 0 {
            return Ok(());
        }
        let args = self.backward_args(inputs, [dq, dk, dv], &layout)?;
        let [statistics, queries, keys] = variant.kernels();
        let launch = |kernel, grid, maps: &[EncodedMap]| {
            let arguments: Vec<&[u8]> =
                [bytes_of(&args)].into_iter().chain(maps.iter().map(bytes_of)).collect();
            self.cuda.launch(kernel, grid, &arguments)
        };
        let [of_queries, of_keys] = variant.shared();
        let maps = match variant.core {
            Core::Warp => Vec::new(),
            Core::Warpgroup => {
                self.key_maps(Keys::Packed { k: inputs.k, v: inputs.v }, [args.k, args.v])?.to_vec()
            }
        };
        launch(statistics, Grid::row((n * heads).div_ceil(2048 / d), 256), &[])?;
        launch(queries, self.grid(layout.query_items.len(), variant.threads(), of_queries), &maps)?;
        Ok(launch(keys, self.grid(layout.key_items.len(), variant.threads(), of_keys), &[])?)
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
