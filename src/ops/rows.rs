//! Moving whole rows: copy, gather, and the gather's backward.
//!
//! | function | computes | shapes |
//! |---|---|---|
//! | [`copy`] | y = x | x, y alike |
//! | [`gather`] | y\[i\] = x\[rows\[i\]\] | x [N, C], rows [M], y [M, C] |
//! | [`scatter`] | dx\[j\] = sum of dy\[i\] with rows\[i\] = j | dy [M, C], rows [M], dx [N, C] |
//!
//! Traffic: each element once in, once out. [`scatter`] sums in ascending i in the accumulator's type and rounds once; rows
//! that nothing names become 0.

use bytemuck::bytes_of;

use super::launch::Launch;
use super::work::{Work, of};
use super::{OpError, expect_dims, expect_dtype};
use crate::device::{Device, DeviceError, Float, Grid, Stream};
use crate::dims;
use crate::tensor::{DType, Element, View, ViewMut};
use crate::with_float;

const STEM: &str = "rows";
/// Rows that a host task moves at a time.
const ROWS: usize = 64;

/// [`copy`]'s, of [N, C].
pub fn copy_work([n, c]: [usize; 2], storage: DType) -> Work {
    Work::moving(of(storage, 2 * n * c))
}

/// [`gather`]'s, of [M, C].
pub fn gather_work([m, c]: [usize; 2], storage: DType) -> Work {
    Work::moving(of(storage, 2 * m * c) + of(DType::U32, m))
}

/// [`scatter`]'s, of [M, N, C].
pub fn scatter_work([m, n, c]: [usize; 3], storage: DType) -> Work {
    Work::moving(of(storage, (m + n) * c) + of(DType::U32, m))
}

/// y = x.
///
/// # Errors
/// When shapes or dtypes differ.
pub fn copy(stream: &Stream, x: View<'_>, y: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "rows_copy";
    expect_dims(OP, "y", y.dims(), x.dims())?;
    expect_dtype(OP, "y", y.dtype(), x.dtype())?;
    match stream.launch(OP) {
        Device::Host(host) => {
            let x = x.host_bytes();
            host.chunks_mut(y.host_bytes_mut(), 1 << 18, |i, y| {
                let start = i << 18;
                y.copy_from_slice(&x[start..start + y.len()]);
            });
            Ok(())
        }
        Device::Cuda(cuda) => {
            Ok(cuda.driver().copy(x.address(), y.address(), x.bytes()).map_err(DeviceError::from)?)
        }
    }
}

/// y\[i\] = x\[rows\[i\]\].
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn gather(stream: &Stream, x: View<'_>, rows: View<'_>, y: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "rows_gather";
    let (m, c) = (rows.dims().count(), x.dims().row_len());
    expect_dims(OP, "y", dims![N: y.dims().rows(), C: y.dims().row_len()], dims![N: m, C: c])?;
    expect_dtype(OP, "y", y.dtype(), x.dtype())?;
    match stream.launch(OP) {
        Device::Host(host) => {
            let (x, rows, width) = (x.host_bytes(), rows.ids(), c * x.dtype().size());
            host.chunks_mut(y.host_bytes_mut(), width * ROWS, |i, y| {
                for (row, y) in rows[i * ROWS..].iter().zip(y.chunks_mut(width)) {
                    y.copy_from_slice(&x[*row as usize * width..][..width]);
                }
            });
            Ok(())
        }
        Device::Cuda(cuda) => Launch { op: OP, stem: STEM, cuda }.gather("rows_gather", x, rows, y),
    }
}

/// dx\[j\] = sum of dy\[i\] with rows\[i\] = j.
///
/// # Errors
/// When shapes or dtypes do not fit.
pub fn scatter(stream: &Stream, dy: View<'_>, rows: View<'_>, dx: ViewMut<'_>) -> Result<(), OpError> {
    const OP: &str = "rows_scatter";
    let (m, c) = (rows.dims().count(), dx.dims().row_len());
    expect_dims(OP, "dy", dims![N: dy.dims().rows(), C: dy.dims().row_len()], dims![N: m, C: c])?;
    expect_dtype(OP, "dx", dx.dtype(), dy.dtype())?;
    match stream.launch(OP) {
        Device::Host(host) => with_float!(dy.dtype(), T => {
            let sources = Sources::new(rows.ids(), dx.dims().rows());
            let dy = dy.host::<T>();
            host.chunks_mut(dx.host_mut::<T>(), c * ROWS, |i, dx| {
                for (j, dx) in dx.chunks_mut(c).enumerate() {
                    sum_rows(dy, sources.of(i * ROWS + j), dx);
                }
            });
            Ok(())
        }),
        Device::Cuda(cuda) => launch_scatter(&Launch { op: OP, stem: STEM, cuda }, dy, rows, dx),
    }
}

/// Sorts the picks by row, stably, finds where each row's begin, then adds them up.
fn launch_scatter(launch: &Launch<'_>, dy: View<'_>, rows: View<'_>, dx: ViewMut<'_>) -> Result<(), OpError> {
    launch.expect_bf16("dy", dy)?;
    let pieces = launch.pieces_of_row("dx", dx.view())?;
    let picks = launch.count("picks", rows.dims().count())?;
    let count = launch.count("rows of dx", dx.dims().rows())?;
    let starts = launch.cuda.scratch((count as usize + 2 + 2 * picks as usize) * size_of::<u32>())?;
    let order = starts.offset((count as usize + 1).next_multiple_of(2) * size_of::<u32>());
    let (from, ids, dx) = (launch.start("dy", dy)?, launch.start("rows", rows)?, dx.address());
    let grid = Grid::row(picks.div_ceil(32) as usize + (count + 1).div_ceil(32) as usize, 128);
    let arguments = [bytes_of(&ids), bytes_of(&order), bytes_of(&starts), bytes_of(&picks), bytes_of(&count)];
    launch.run("rows_order_u32", grid, &arguments)?;
    let grid = Grid { blocks: [count, pieces.div_ceil(128), 1], threads: 128, shared: 0 };
    let arguments = [bytes_of(&from), bytes_of(&order), bytes_of(&starts), bytes_of(&dx), bytes_of(&pieces)];
    launch.run("rows_scatter_bf16", grid, &arguments)
}

fn sum_rows<T: Element>(dy: &[T], sources: &[u32], dx: &mut [T]) {
    let c = dx.len();
    for (k, x) in dx.iter_mut().enumerate() {
        let terms = sources.iter().map(|&i| dy[i as usize * c + k].load());
        *x = T::store(terms.fold(T::Acc::ZERO, |sum, term| sum + term));
    }
}

/// For each row of x the rows of y that were gathered from it, ascending.
struct Sources {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Sources {
    fn new(rows: &[u32], n: usize) -> Self {
        let mut starts = vec![0; n + 1];
        rows.iter().for_each(|&row| starts[row as usize + 1] += 1);
        (0..n).for_each(|j| starts[j + 1] += starts[j]);
        let (mut next, mut items) = (starts.clone(), vec![0; rows.len()]);
        for (i, &row) in rows.iter().enumerate() {
            items[next[row as usize] as usize] = i as u32;
            next[row as usize] += 1;
        }
        Self { starts, items }
    }

    fn of(&self, j: usize) -> &[u32] {
        &self.items[self.starts[j] as usize..self.starts[j + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn scatter_is_the_transpose_of_gather() {
        let stream = Stream::new(Device::open(DeviceChoice::Cpu, 2).expect("a CPU"));
        let (n, c, picks) = (131, 3, [130, 0, 7, 7, 0, 64, 7_u32]);
        let x: Vec<f64> = (0..n * c).map(|i| (i * 37 % 101) as f64).collect();
        let dy: Vec<f64> = (0..picks.len() * c).map(|i| (i * 29 % 97) as f64).collect();
        let rows = Tensor::from_ids(&picks, dims![N: picks.len()]);
        let mut y = Tensor::zeros(DType::F64, dims![N: picks.len(), C: c]);
        gather(&stream, Tensor::from_slice(&x, dims![N: n, C: c]).view(), rows.view(), y.view_mut())
            .expect("fits");
        let mut dx = Tensor::from_slice(&vec![f64::NAN; n * c], dims![N: n, C: c]);
        let from = Tensor::from_slice(&dy, dims![N: picks.len(), C: c]);
        scatter(&stream, from.view(), rows.view(), dx.view_mut()).expect("fits");
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert_eq!(dot(&y.view().to_f64(), &dy), dot(&x, &dx.view().to_f64()));
    }
}
