use std::cell::RefCell;
use std::ops::Range;

use super::lanes::Lanes;
use super::{LEAF, Matrix, Write, pack};
use crate::device::{BlockMut, Float, Region, Scalar};

/// Most rows of a packed part of `a`: as many as amortise packing `b`.
const MOST_ROWS: usize = 192;
/// Most columns of a packed part of `b`: half of a second-level cache.
const MOST_COLUMNS: usize = 256;
/// Most running totals between two leaves.
const MOST_TOTALS: usize = MOST_ROWS * MOST_COLUMNS;
/// Numbers of scratch memory a thread keeps.
const SCRATCH: usize = (MOST_ROWS + MOST_COLUMNS) * LEAF + 2 * pack::SLACK + MOST_TOTALS + 1024;

thread_local! {
    static MEMORY: RefCell<Region> = RefCell::new(Region::host(SCRATCH * size_of::<f64>()));
}

/// c (= or +=) a b, in the registers `L`.
///
/// # Safety
/// The CPU has the register's instructions.
pub(super) unsafe fn product<L, A, B, C>(
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
    c: &mut BlockMut<'_, C>,
    write: Write,
) where
    L: Lanes,
    A: Scalar<Sum = L::Sum>,
    B: Scalar<Sum = L::Sum>,
    C: Scalar<Sum = L::Sum>,
{
    let [m, n] = [a.size[0], b.size[1]];
    if a.size[1] == 0 && write == Write::Add {
        return;
    }
    MEMORY.with_borrow_mut(|memory| {
        let mut scratch = Scratch::new(bytemuck::cast_slice_mut(memory.memory_mut().host()));
        for rows in chunks(0..m, MOST_ROWS) {
            let wide = (MOST_TOTALS / rows.len() / (2 * L::N) * 2 * L::N).max(2 * L::N);
            for columns in chunks(0..n, wide) {
                let mut part = Part { a, b, rows: rows.clone(), columns, write, c };
                // SAFETY: the caller's.
                unsafe { part.run::<L>(&mut scratch) }
            }
        }
    });
}

/// Consecutive ranges of `most` (the last may be shorter).
fn chunks(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(most).map(move |start| start..end.min(start + most))
}

/// Range `i` of `parts` even ones of 0..size.
fn even(size: usize, parts: usize, i: usize) -> Range<usize> {
    size * i / parts..size * (i + 1) / parts
}

/// A thread's packed operands, the totals between leaves, and one tile.
struct Scratch<'a, S> {
    a: &'a mut [S],
    b: &'a mut [S],
    totals: &'a mut [S],
    tile: &'a mut [S],
}

impl<'a, S> Scratch<'a, S> {
    fn new(memory: &'a mut [S]) -> Self {
        let (a, memory) = memory.split_at_mut(MOST_ROWS * LEAF + pack::SLACK);
        let (b, memory) = memory.split_at_mut(MOST_COLUMNS * LEAF + pack::SLACK);
        let (totals, tile) = memory.split_at_mut(MOST_TOTALS);
        Self { a, b, totals, tile }
    }
}

/// A block of c whose totals fit the scratch.
struct Part<'p, 'a, 'c, A, B, C> {
    a: Matrix<'a, A>,
    b: Matrix<'a, B>,
    c: &'p mut BlockMut<'c, C>,
    rows: Range<usize>,
    columns: Range<usize>,
    write: Write,
}

/// One leaf of k: its range, and whether totals come from or go to the output.
#[derive(Clone)]
struct Leaf {
    k: Range<usize>,
    first: bool,
    last: bool,
}

impl<A, B, C, S: Float> Part<'_, '_, '_, A, B, C>
where
    A: Scalar<Sum = S>,
    B: Scalar<Sum = S>,
    C: Scalar<Sum = S>,
{
    unsafe fn run<L: Lanes<Sum = S>>(&mut self, scratch: &mut Scratch<'_, S>) {
        let k = self.a.size[1];
        let leaves = k.div_ceil(LEAF).max(1);
        for leaf in 0..leaves {
            let range = leaf * LEAF..k.min((leaf + 1) * LEAF);
            let leaf = Leaf { k: range, first: leaf == 0, last: leaf + 1 == leaves };
            // SAFETY: the caller's.
            unsafe { self.leaf::<L>(&leaf, scratch) }
        }
    }

    /// Strips are packed when they are first read. A strip of `a` stays in the first-level cache while it meets the strips
    /// of `b`, which stay in the second; a single strip of `a` needs each strip of `b` once, so those share one place.
    unsafe fn leaf<L: Lanes<Sum = S>>(&mut self, leaf: &Leaf, scratch: &mut Scratch<'_, S>) {
        let (depth, width) = (leaf.k.len(), 2 * L::N);
        let strips = self.rows.len().div_ceil(L::ROWS);
        for (n, group) in chunks(0..self.columns.len(), MOST_COLUMNS).enumerate() {
            for s in 0..strips {
                let rows = even(self.rows.len(), strips, s);
                let a = &mut scratch.a[rows.start * depth..];
                if n == 0 {
                    let from = self.rows.start + rows.start..self.rows.start + rows.end;
                    // SAFETY: the caller's.
                    unsafe { L::pack(self.a.part(from, leaf.k.clone()), rows.len(), a) }
                }
                for columns in chunks(group.clone(), width) {
                    let at = if strips == 1 { 0 } else { (columns.start - group.start) * depth };
                    let width = columns.len().next_multiple_of(L::N);
                    let b = &mut scratch.b[at..];
                    if s == 0 {
                        let from = self.columns.start + columns.start..self.columns.start + columns.end;
                        // SAFETY: the caller's.
                        unsafe { L::pack(self.b.part(leaf.k.clone(), from).transposed(), width, b) }
                    }
                    let tile = &mut scratch.tile[..rows.len() * width];
                    // SAFETY: the caller's.
                    unsafe { L::tile(rows.len(), &a[..rows.len() * depth], &b[..depth * width], tile) }
                    self.add(leaf, [rows.clone(), columns], tile, scratch.totals);
                }
            }
        }
    }

    /// Adds a tile of leaf sums to the totals so far.
    fn add(&mut self, leaf: &Leaf, [rows, columns]: [Range<usize>; 2], tile: &[S], totals: &mut [S]) {
        let stride = self.columns.len();
        let zero = S::ZERO;
        for (row, sums) in rows.clone().zip(tile.chunks_exact(tile.len() / rows.len())) {
            let totals = &mut totals[row * stride + columns.start..row * stride + columns.end];
            let at = self.columns.start;
            let c = &mut self.c.row(self.rows.start + row)[at + columns.start..at + columns.end];
            let sums = &sums[..columns.len()];
            match (leaf.first, leaf.last, self.write) {
                (true, true, Write::Set) => zip(c, sums, |c, s| *c = C::narrow(zero + s)),
                (true, true, Write::Add) => zip(c, sums, |c, s| *c = C::narrow(c.widen() + s)),
                (true, false, Write::Set) => zip(totals, sums, |t, s| *t = zero + s),
                (true, false, Write::Add) => {
                    totals.iter_mut().zip(c).zip(sums).for_each(|((t, c), s)| *t = c.widen() + *s);
                }
                (false, false, _) => zip(totals, sums, |t, s| *t += s),
                (false, true, _) => {
                    c.iter_mut().zip(totals).zip(sums).for_each(|((c, t), s)| *c = C::narrow(*t + *s));
                }
            }
        }
    }
}

fn zip<T, S: Copy>(to: &mut [T], from: &[S], f: impl Fn(&mut T, S)) {
    to.iter_mut().zip(from).for_each(|(to, from)| f(to, *from));
}
