use std::ops::Range;

/// A matrix in memory: rows, columns, and the distance between neighbours of each.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    pub(super) size: [usize; 2],
    pub(super) stride: [usize; 2],
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

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.size[0], self.size[1])
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Self {
        let ([a, b], [s, t]) = (self.size, self.stride);
        Self { data: self.data, size: [b, a], stride: [t, s] }
    }

    /// Some of the rows.
    pub fn rows(self, rows: Range<usize>) -> Self {
        self.part(rows, 0..self.size[1])
    }

    /// A rectangle of it.
    pub fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.size[0] && columns.end <= self.size[1], "a part of {:?}", self.size);
        let start = rows.start * self.stride[0] + columns.start * self.stride[1];
        Self::strided(&self.data[start.min(self.data.len())..], [rows.len(), columns.len()], self.stride)
    }

    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize) -> T {
        self.data[i * self.stride[0] + j * self.stride[1]]
    }

    /// Where element (i, j) lies; inside the memory if both are inside the matrix.
    #[inline(always)]
    pub(super) fn pointer(&self, i: usize, j: usize) -> *const T {
        self.data.as_ptr().wrapping_add(i * self.stride[0] + j * self.stride[1])
    }

    /// Whether the `count` elements from (i, j) on lie inside the memory.
    #[inline(always)]
    pub(super) fn reaches(&self, i: usize, j: usize, count: usize) -> bool {
        i * self.stride[0] + j * self.stride[1] + count <= self.data.len()
    }
}

/// A row-major matrix to write to.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    pub(super) data: &'a mut [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    /// Over `data`, without gaps.
    pub fn new(data: &'a mut [T], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns);
        Self { data, rows, columns }
    }
}
