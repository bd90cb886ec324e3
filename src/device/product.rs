//! Matrix products on the host, under one reduction contract whatever the shape.

use std::ops::Range;

use super::{Float, Host, Scalar};

/// Length of the runs of k that are summed from zero before they are added up.
pub const LEAF: usize = 512;

/// A matrix in memory: rows, columns, and the distance between neighbours of each.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    size: [usize; 2],
    stride: [usize; 2],
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A row-major matrix without gaps.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, [rows, columns], [columns, 1])
    }

    /// Element (i, j) lies at `i * stride[0] + j * stride[1]`.
    pub fn strided(data: &'a [T], size: [usize; 2], stride: [usize; 2]) -> Self {
        let last = (size[0].max(1) - 1) * stride[0] + (size[1].max(1) - 1) * stride[1];
        assert!(size[0] * size[1] == 0 || last < data.len(), "a matrix of {size:?} leaves its memory");
        Self { data, size, stride }
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Self {
        let ([a, b], [s, t]) = (self.size, self.stride);
        Self { data: self.data, size: [b, a], stride: [t, s] }
    }

    /// Some of the rows.
    pub fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.size[0]);
        let data = &self.data[(rows.start * self.stride[0]).min(self.data.len())..];
        Self::strided(data, [rows.len(), self.size[1]], self.stride)
    }

    fn at(&self, i: usize, j: usize) -> T {
        self.data[i * self.stride[0] + j * self.stride[1]]
    }
}

/// A row-major matrix to write to.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    columns: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    /// Over `data`, without gaps.
    pub fn new(data: &'a mut [T], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns);
        Self { data, rows, columns }
    }
}

/// c (= or +=) a b in the contract's order: the plain form that every faster body must equal bit for bit.
pub fn product<A, C>(host: &Host, a: Matrix<'_, A>, b: Matrix<'_, A>, c: MatrixMut<'_, C>, add: bool)
where
    A: Scalar,
    C: Scalar<Sum = A::Sum>,
{
    assert!(a.size[1] == b.size[0] && [a.size[0], b.size[1]] == [c.rows, c.columns]);
    let k = a.size[1];
    host.chunks_mut(c.data, c.columns.max(1), |i, row| {
        for (j, c) in row.iter_mut().enumerate() {
            let mut total = if add { c.widen() } else { A::Sum::ZERO };
            for leaf in (0..k).step_by(LEAF) {
                let mut sum = A::Sum::ZERO;
                for p in leaf..k.min(leaf + LEAF) {
                    sum = a.at(i, p).widen().fma(b.at(p, j).widen(), sum);
                }
                total += sum;
            }
            *c = C::narrow(total);
        }
    });
}
