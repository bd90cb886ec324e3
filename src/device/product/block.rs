use std::cell::RefCell;
use std::ops::Range;

use super::kernel::{Kernel, Sum};
use super::lanes::Lanes;
use super::pack::{self, Strip};
use super::panels::Panels;
use super::tile::Sums;
use super::{LEAF, Matrix, Write};
use crate::device::{BlockMut, Float, Region, Scalar};

/// Most rows of `a` at once: as many as amortise packing `b`.
const MOST_ROWS: usize = 576;
/// Most columns of `b` at once: packed, half of a second-level cache.
const MOST_COLUMNS: usize = 256;
/// Most columns that share one packing of `a`.
const SPAN: usize = 1024;
/// Panels of `a` up to which `b` is packed piece by piece.
const FEW: usize = 3;
/// Steps of k in a piece: packed, half of a first-level cache.
const PIECE: usize = 128;
/// Words that `a` may take, packed.
const ROOM: usize = 1536 * LEAF;
/// Words and sums of scratch memory a thread keeps.
const SCRATCH: usize = ROOM + MOST_COLUMNS * LEAF + MOST_ROWS * SPAN + 1024;

thread_local! {
    static MEMORY: RefCell<Region> = RefCell::new(Region::host(SCRATCH * size_of::<f64>()));
}

/// c (= or +=) a b, by the kernel `K`.
///
/// # Safety
/// The CPU has the kernel's instructions.
pub(super) unsafe fn product<K: Kernel, C: Scalar<Sum = Sum<K>>>(
    a: Matrix<'_, K::Operand>,
    b: Matrix<'_, K::Operand>,
    c: &mut BlockMut<'_, C>,
    write: Write,
) {
    if a.size[1] == 0 && write == Write::Add {
        return;
    }
    MEMORY.with_borrow_mut(|memory| {
        let mut scratch = Scratch::<K>::new(bytemuck::cast_slice_mut(memory.memory_mut().host()));
        let m = a.size[0];
        let parts = m.div_ceil(MOST_ROWS);
        for part in 0..parts {
            let rows = m * part / parts..m * (part + 1) / parts;
            let a = a.rows(rows.clone());
            let mut part = Part::<K, C> { a, b, first: rows.start, c, write };
            // SAFETY: the caller's.
            unsafe { part.run(&mut scratch) }
        }
    });
}

/// The piece of a leaf that starts at step `from`; empty behind the leaf's end.
fn piece<T: Copy>(lines: Matrix<'_, T>, from: usize) -> Matrix<'_, T> {
    let [count, depth] = lines.size;
    lines.part(0..count, from.min(depth)..depth.min(from + PIECE))
}

/// Consecutive ranges of `most` (the last may be shorter).
fn chunks(size: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    (0..size).step_by(most).map(move |start| start..size.min(start + most))
}

/// A thread's packed operands, the totals between leaves, and one tile.
struct Scratch<'a, K: Kernel> {
    a: &'a mut [K::Word],
    b: &'a mut [K::Word],
    totals: &'a mut [Sum<K>],
    tile: &'a mut [Sum<K>],
}

impl<'a, K: Kernel> Scratch<'a, K> {
    fn new(memory: &'a mut [Sum<K>]) -> Self {
        let (a, memory) = memory.split_at_mut(ROOM + pack::SLACK);
        let (b, memory) = memory.split_at_mut(MOST_COLUMNS * LEAF + pack::SLACK);
        let (totals, tile) = memory.split_at_mut(MOST_ROWS * SPAN);
        Self { a: bytemuck::cast_slice_mut(a), b: bytemuck::cast_slice_mut(b), totals, tile }
    }
}

/// Some rows of a, all of b, and the rows of c from `first` on.
struct Part<'p, 'a, 'c, K: Kernel, C> {
    a: Matrix<'a, K::Operand>,
    b: Matrix<'a, K::Operand>,
    first: usize,
    c: &'p mut BlockMut<'c, C>,
    write: Write,
}

/// One leaf of k under the columns `span` of b, whose totals are kept from leaf to leaf.
#[derive(Clone)]
struct Leaf {
    span: Range<usize>,
    k: Range<usize>,
    first: bool,
    last: bool,
}

impl<K: Kernel, C: Scalar<Sum = Sum<K>>> Part<'_, '_, '_, K, C> {
    /// The rows are packed once if all of k has room, else once for each span. A few rows read each column's leaves one after
    /// another, as they lie in memory.
    unsafe fn run(&mut self, scratch: &mut Scratch<'_, K>) {
        let lanes = K::Register::N;
        let ([m, k], n) = (self.a.size, self.b.size[1]);
        let rows = Panels::new(m, 1, K::ROWS);
        let (span, group) = if rows.count <= FEW { (2 * lanes, 2 * lanes) } else { (SPAN, MOST_COLUMNS) };
        let stays = m * k.div_ceil(K::STEPS) <= ROOM;
        for span in chunks(n, span) {
            for range in chunks(k.max(1), LEAF) {
                let (first, last) = (range.start == 0, range.end >= k);
                let range = range.start..range.end.min(k);
                let at = if stays { m * range.start / K::STEPS } else { 0 };
                if span.start == 0 || !stays {
                    let lines = self.a.part(0..m, range.clone());
                    let strip = Strip { lines, panels: rows, next: lines.rows(0..0) };
                    // SAFETY: the caller's.
                    unsafe { K::pack(strip, &mut scratch.a[at..]) }
                }
                let leaf = Leaf { span: span.clone(), k: range, first, last };
                for columns in chunks(span.len(), group) {
                    let group = span.start + columns.start..span.start + columns.end;
                    let place = (at, &mut *scratch);
                    // SAFETY: the caller's.
                    unsafe {
                        match rows.count {
                            ..=FEW => self.stream(rows, group, &leaf, place),
                            _ => self.meet(rows, group, &leaf, place),
                        }
                    }
                }
            }
        }
    }

    /// A few rows need each number of `b` once or twice, so it is packed in pieces that stay in the first-level cache, and
    /// tiles take their sums along from piece to piece.
    unsafe fn stream(
        &mut self,
        rows: Panels,
        columns: Range<usize>,
        leaf: &Leaf,
        (at, scratch): (usize, &mut Scratch<'_, K>),
    ) {
        let (depth, panels) = (leaf.k.len(), Panels::new(columns.len(), K::Register::N, 2));
        let words = depth.div_ceil(K::STEPS);
        let (lines, width) = (self.b.part(leaf.k.clone(), columns.clone()).transposed(), panels.room());
        for from in (0..depth.max(1)).step_by(PIECE) {
            let (lines, rest) = (piece(lines, from), piece(lines, from + PIECE));
            let next = if rest.size[1] > 0 { rest } else { piece(self.after(leaf, &columns), 0) };
            let steps = lines.size[1].div_ceil(K::STEPS);
            // SAFETY: the caller's.
            unsafe { K::pack(Strip { lines, panels, next }, scratch.b) }
            for row in rows.iter() {
                let a = &scratch.a[at + row.lines.start * words + from / K::STEPS * row.width..]
                    [..steps * row.width];
                let tile = &mut scratch.tile[row.lines.start * width..][..row.width * width];
                let sums = if from == 0 { Sums::Fresh } else { Sums::Held };
                // SAFETY: the caller's.
                unsafe { K::tile(row.width, a, &scratch.b[..width * steps], (tile, sums)) }
            }
        }
        for row in rows.iter() {
            let tile = &scratch.tile[row.lines.start * width..][..row.width * width];
            self.add(leaf, [row.lines.clone(), columns.clone()], tile, scratch.totals);
        }
    }

    /// A panel of `a` stays in the first-level cache while it meets the panels of `b`, which stay in the second.
    unsafe fn meet(
        &mut self,
        rows: Panels,
        group: Range<usize>,
        leaf: &Leaf,
        (at, scratch): (usize, &mut Scratch<'_, K>),
    ) {
        let depth = leaf.k.len().div_ceil(K::STEPS);
        let columns = Panels::new(group.len(), K::Register::N, 2);
        let lines = self.b.part(leaf.k.clone(), group.clone()).transposed();
        let strip = Strip { lines, panels: columns, next: self.after(leaf, &group) };
        // SAFETY: the caller's.
        unsafe { K::pack(strip, scratch.b) }
        for row in rows.iter() {
            let a = &scratch.a[at + row.lines.start * depth..][..row.width * depth];
            for column in columns.iter() {
                let b = &scratch.b[column.lines.start * depth..][..column.width * depth];
                let tile = &mut scratch.tile[..row.width * column.width];
                let columns = group.start + column.lines.start..group.start + column.lines.end;
                self.bring(leaf, [row.lines.clone(), columns.clone()], scratch.totals);
                // SAFETY: the caller's.
                unsafe { K::tile(row.width, a, b, (&mut *tile, Sums::Fresh)) }
                self.add(leaf, [row.lines.clone(), columns], tile, scratch.totals);
            }
        }
    }

    /// The part of b that is packed after `group`.
    fn after(&self, leaf: &Leaf, group: &Range<usize>) -> Matrix<'_, K::Operand> {
        let [k, n] = self.b.size;
        let next = |start: usize, end: usize| start..end.min(start + group.len());
        let (k, columns) = match (group.end < leaf.span.end, leaf.last) {
            (true, _) => (leaf.k.clone(), next(group.end, leaf.span.end)),
            (false, false) => (leaf.k.end..k.min(leaf.k.end + LEAF), next(leaf.span.start, leaf.span.end)),
            (false, true) => (0..k.min(LEAF), next(leaf.span.end, n)),
        };
        self.b.part(k, columns).transposed()
    }

    /// Brings nearer what [`Part::add`] will touch.
    fn bring(&mut self, leaf: &Leaf, [rows, columns]: [Range<usize>; 2], totals: &[Sum<K>]) {
        for row in rows {
            if leaf.last || leaf.first && self.write == Write::Add {
                pack::bring(&self.c.row(self.first + row)[columns.clone()]);
            }
            if !(leaf.first && leaf.last) {
                let start = row * leaf.span.len() + columns.start - leaf.span.start;
                pack::bring(&totals[start..start + columns.len()]);
            }
        }
    }

    /// Adds a tile of leaf sums to the totals so far.
    fn add(
        &mut self,
        leaf: &Leaf,
        [rows, columns]: [Range<usize>; 2],
        tile: &[Sum<K>],
        totals: &mut [Sum<K>],
    ) {
        let (zero, width) = (Sum::<K>::ZERO, columns.len());
        let sums = tile.chunks_exact(tile.len() / rows.len());
        for (row, sums) in rows.zip(sums) {
            let sums = &sums[..width];
            let totals = &mut totals[row * leaf.span.len() + columns.start - leaf.span.start..][..width];
            let c = &mut self.c.row(self.first + row)[columns.clone()];
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
