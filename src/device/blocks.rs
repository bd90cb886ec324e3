use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

/// A rectangle of a row-major matrix that nobody else touches.
#[derive(Debug)]
pub struct BlockMut<'a, T> {
    start: NonNull<T>,
    stride: usize,
    /// Rows of the matrix that this covers.
    pub rows: Range<usize>,
    /// Columns of the matrix that this covers.
    pub columns: Range<usize>,
    life: PhantomData<&'a mut T>,
}

// SAFETY: a block is a set of disjoint `&mut [T]` rows.
unsafe impl<T: Send> Send for BlockMut<'_, T> {}

impl<'a, T> BlockMut<'a, T> {
    /// The matrix of `size` whose row i starts at `i * stride` of `data`.
    pub fn new(data: &'a mut [T], size: [usize; 2], stride: usize) -> Self {
        let [rows, columns] = size;
        let reach = rows.saturating_sub(1) * stride + columns;
        assert!(columns <= stride || rows <= 1, "rows of {columns} overlap at a stride of {stride}");
        assert!(rows * columns == 0 || reach <= data.len(), "a block of {size:?} leaves its memory");
        let start = NonNull::from(data).cast();
        Self { start, stride, rows: 0..rows, columns: 0..columns, life: PhantomData }
    }

    /// Where its first element lies, and the distance from one row to the next.
    pub(super) fn origin(&mut self) -> (*mut T, usize) {
        (self.start.as_ptr(), self.stride)
    }

    /// Row `i` of the block (0 is the block's first).
    pub fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows.len(), "row {i} of a block of {}", self.rows.len());
        // SAFETY: the row lies inside the matrix, and blocks made by one `grid_mut` don't overlap.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr().add(i * self.stride), self.columns.len())
        }
    }
}

/// Cuts a row-major matrix of `width` columns into disjoint blocks, row ranges outermost. Each list of bounds starts at 0,
/// ascends, and ends at the matrix's size.
pub fn grid_mut<'a, T>(
    data: &'a mut [T],
    width: usize,
    row_bounds: &[usize],
    column_bounds: &[usize],
) -> Vec<BlockMut<'a, T>> {
    check_bounds(row_bounds, data.len().checked_div(width).unwrap_or(0));
    check_bounds(column_bounds, width);
    let origin = NonNull::from(data).cast::<T>();
    let mut blocks = Vec::with_capacity((row_bounds.len() - 1) * (column_bounds.len() - 1));
    for rows in row_bounds.windows(2) {
        for columns in column_bounds.windows(2) {
            // SAFETY: the bounds were checked against the matrix; the element lies inside or one past its end.
            let start = unsafe { origin.add(rows[0] * width + columns[0]) };
            let (rows, columns) = (rows[0]..rows[1], columns[0]..columns[1]);
            blocks.push(BlockMut { start, stride: width, rows, columns, life: PhantomData });
        }
    }
    blocks
}

fn check_bounds(bounds: &[usize], size: usize) {
    assert!(
        bounds.first() == Some(&0) && bounds.last() == Some(&size),
        "bounds {bounds:?} do not span {size}"
    );
    assert!(bounds.is_sorted(), "bounds {bounds:?} do not ascend");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_matrix_once() {
        let mut data = vec![0; 5 * 7];
        for (n, mut block) in grid_mut(&mut data, 7, &[0, 2, 5], &[0, 3, 3, 7]).into_iter().enumerate() {
            for i in 0..block.rows.len() {
                block.row(i).iter_mut().for_each(|x| *x += 10 + n);
            }
        }
        let expected: Vec<usize> =
            (0..35).map(|i| 10 + 3 * usize::from(i / 7 >= 2) + 2 * usize::from(i % 7 >= 3)).collect();
        assert_eq!(data, expected);
    }
}
