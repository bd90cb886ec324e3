//! Token ids to rows of the embedding table.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`forward`] | out[n] = table[tokens[n]] | table [V, C], tokens [N], out [N, C] |
//! | [`backward`] | dtable[tokens[n]] += dout[n] | dout [N, C], tokens [N], dtable [V, C] |
//!
//! Order of sums: a table row receives its tokens' rows one by one, in ascending n, onto its old value. So a batch split
//! anywhere gives the same bits.

use bytemuck::bytes_of;

use super::launch::Launch;
use super::split::rows_per_task;
use super::work::{Work, of};
use super::{OpError, expect_below, expect_dims, expect_dtype};
use crate::device::{Device, Grid, Host, Stream};
use crate::dims;
use crate::tensor::{DType, Element, View, ViewMut};
use crate::with_float;

const STEM: &str = "embedding";

/// [`forward`]'s, of [N, C].
pub fn forward_work([n, c]: [usize; 2], storage: DType) -> Work {
    Work::moving(of(storage, 2 * n * c) + of(DType::U32, n))
}

/// [`backward`]'s, of [N, V, C], where tokens differ from one another as far as the table allows.
pub fn backward_work([n, v, c]: [usize; 3], storage: DType) -> Work {
    let rows = n.min(v);
    Work::moving(of(storage, n * c) + of(storage.accumulator(), 2 * rows * c) + of(DType::U32, n))
}

/// out = rows of table. Moves 2 N C elements. dtypes: table and out alike.
///
/// # Errors
/// When shapes or dtypes do not fit, or a token is not in the table.
pub fn forward(stream: &Stream, table: View<'_>, tokens: View<'_>, out: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "embedding_forward";
    check(OP, table, tokens, (out.view(), "out"))?;
    expect_dtype(OP, "out", out.dtype(), table.dtype())?;
    let columns = table.dims().row_len();
    match stream.launch(OP) {
        Device::Host(host) => with_float!(table.dtype(), T => {
            expect_below(OP, "token", tokens.ids(), table.dims().rows())?;
            gather(host, table.host::<T>(), tokens.ids(), (out.host_mut::<T>(), columns));
        }),
        Device::Cuda(cuda) => launch_forward(&Launch { op: OP, stem: STEM, cuda }, table, tokens, out)?,
    }
    Ok(())
}

/// dtable += rows of dout. Moves 3 N C elements. dtable has the accumulator's dtype.
///
/// # Errors
/// When shapes or dtypes do not fit, or a token is not in the table.
pub fn backward(
    stream: &Stream,
    dout: View<'_>,
    tokens: View<'_>,
    dtable: ViewMut<'_>,
) -> Result<(), OpError> {
    const OP: &str = "embedding_backward";
    check(OP, dtable.view(), tokens, (dout, "dout"))?;
    expect_dtype(OP, "dtable", dtable.dtype(), dout.dtype().accumulator())?;
    let columns = dout.dims().row_len();
    match stream.launch(OP) {
        Device::Host(host) => with_float!(dout.dtype(), T => {
            expect_below(OP, "token", tokens.ids(), dtable.dims().rows())?;
            scatter(host, dout.host::<T>(), tokens.ids(), (dtable.host_mut(), columns));
        }),
        Device::Cuda(cuda) => launch_backward(&Launch { op: OP, stem: STEM, cuda }, dout, tokens, dtable)?,
    }
    Ok(())
}

fn check(
    op: &'static str,
    table: View<'_>,
    tokens: View<'_>,
    (rows, name): (View<'_>, &'static str),
) -> Result<(), OpError> {
    let (c, n) = (table.dims().row_len(), tokens.dims().count());
    expect_dtype(op, "tokens", tokens.dtype(), DType::U32)?;
    expect_dims(op, name, rows.dims(), dims![N: n, C: c])
}

fn launch_forward(
    launch: &Launch<'_>,
    table: View<'_>,
    tokens: View<'_>,
    out: ViewMut<'_>,
) -> Result<(), OpError> {
    launch.expect_bf16("table", table)?;
    launch.gather("embedding_forward_bf16", table, tokens, out)
}

/// Sorts the tokens, stably, then adds each run of one token to its row.
fn launch_backward(
    launch: &Launch<'_>,
    dout: View<'_>,
    tokens: View<'_>,
    dtable: ViewMut<'_>,
) -> Result<(), OpError> {
    launch.expect_bf16("dout", dout)?;
    let pieces = launch.pieces_of_row("dout", dout)?;
    let count = launch.count("tokens", tokens.dims().count())?;
    let vocabulary = launch.count("rows of the table", dtable.dims().rows())?;
    let order = launch.cuda.scratch(count as usize * size_of::<[u32; 2]>())?;
    let (ids, dout, dtable) =
        (launch.start("tokens", tokens)?, dout.address(), launch.start("dtable", dtable.view())?);
    let arguments = [bytes_of(&ids), bytes_of(&order), bytes_of(&count), bytes_of(&vocabulary)];
    launch.run("embedding_order_u32", Grid::row(count.div_ceil(32) as usize, 128), &arguments)?;
    let arguments =
        [bytes_of(&dout), bytes_of(&order), bytes_of(&dtable), bytes_of(&count), bytes_of(&pieces)];
    let grid = Grid { blocks: [count, pieces.div_ceil(128), 1], threads: 128, shared: 0 };
    launch.run("embedding_backward_bf16", grid, &arguments)
}

fn gather<T: Element>(host: &Host, table: &[T], tokens: &[u32], (out, columns): (&mut [T], usize)) {
    let rows = rows_per_task(columns);
    host.chunks_mut(out, rows * columns.max(1), |task, out| {
        for (row, &token) in out.chunks_mut(columns).zip(&tokens[task * rows..]) {
            row.copy_from_slice(&table[token as usize * columns..][..columns]);
        }
    });
}

/// Each task owns a range of the table and reads every token, so that no row is met by two threads.
fn scatter<T: Element>(host: &Host, dout: &[T], tokens: &[u32], (dtable, columns): (&mut [T::Acc], usize)) {
    let rows = (dtable.len() / columns.max(1)).div_ceil(4 * host.threads()).max(1);
    host.chunks_mut(dtable, rows * columns.max(1), |task, dtable| {
        let mine = task * rows..task * rows + dtable.len() / columns;
        for (token, dout) in tokens.iter().zip(dout.chunks(columns)) {
            if mine.contains(&(*token as usize)) {
                let row = &mut dtable[(*token as usize - mine.start) * columns..][..columns];
                row.iter_mut().zip(dout).for_each(|(sum, x)| *sum += x.load());
            }
        }
    });
}
