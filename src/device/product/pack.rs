use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

use super::Matrix;
use super::lanes::{Lanes, MOST_LANES};
use super::panels::{Panel, Panels};
use crate::device::{Float, Scalar};

/// Numbers that [`body`] may write past the end of the panels.
pub(super) const SLACK: usize = MOST_LANES;

/// Bytes that come from memory at once.
const CACHE_LINE: usize = 64;

/// Steps of k that [`along`] takes through all panels at once: as many lines as one set of the first-level cache holds.
const STEPS: usize = 8;

/// What is packed: lines (rows of a, or columns of b) along one leaf of k, how they are cut into panels, and the lines that
/// will be packed after them, which are brought nearer meanwhile.
#[derive(Clone, Copy)]
pub struct Strip<'a, T> {
    pub(super) lines: Matrix<'a, T>,
    pub(super) panels: Panels,
    pub(super) next: Matrix<'a, T>,
}

/// Lays lines out as tiles read them: panel after panel, line i of a panel at step p in `p * width + i`. What lies between a
/// panel's lines and its width, and [`SLACK`], receives anything.
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
pub(super) unsafe fn body<L: Lanes, T: Scalar<Sum = L::Sum>>(strip: Strip<'_, T>, out: &mut [L::Sum]) {
    let Strip { lines, panels, next } = strip;
    let depth = lines.size[1];
    assert!(out.len() >= panels.room() * depth + SLACK, "room for packed panels");
    match lines.stride {
        [_, 1] => {
            for panel in panels.iter() {
                let rest = lines.rows(panel.lines.end..lines.size[0]);
                let mut ahead = Ahead::new(if rest.size[0] == 0 { next } else { rest });
                // SAFETY: the caller's; the assertion leaves the panel its room.
                unsafe { across::<L, T>(lines, &panel, &mut ahead, &mut out[panel.lines.start * depth..]) }
            }
        }
        // SAFETY: as above.
        [1, _] => unsafe { along::<L, T>(lines, panels, out) },
        _ => {
            for panel in panels.iter() {
                scattered(lines, &panel, 0..depth, &mut out[panel.lines.start * depth..]);
            }
        }
    }
}

/// Each line is contiguous: squares are transposed in registers.
#[inline(always)]
unsafe fn across<L: Lanes, T: Scalar<Sum = L::Sum>>(
    lines: Matrix<'_, T>,
    panel: &Panel,
    ahead: &mut Ahead<'_, T>,
    out: &mut [L::Sum],
) {
    let depth = lines.size[1];
    let whole = depth - depth % L::N;
    // One square's lines after another: twice as many at once would share too few ways of the first-level cache.
    for first in panel.lines.clone().step_by(L::N) {
        for p in (0..whole).step_by(L::N) {
            ahead.bring(L::N * L::N * size_of::<T>() / CACHE_LINE);
            let count = L::N.min(panel.lines.end - first);
            let to = p * panel.width + first - panel.lines.start;
            // SAFETY: the caller vouches for the instructions; each line holds N elements from p on; the stores end at
            // most N - 1 numbers past the panel, and what they spill over is stored later.
            unsafe {
                // Where lines are missing, the last one stands in for them.
                let mut square = [L::splat(L::Sum::ZERO); MOST_LANES];
                for (i, line) in square.iter_mut().enumerate().take(L::N) {
                    *line = widen(lines.pointer(first + i.min(count - 1), p));
                }
                L::transpose(&mut square);
                for (i, register) in square.iter().enumerate().take(L::N) {
                    register.store(out.as_mut_ptr().add(to + i * panel.width));
                }
            }
        }
    }
    scattered(lines, panel, whole..depth, out);
}

/// Each step is contiguous: registers are copied.
#[inline(always)]
unsafe fn along<L: Lanes, T: Scalar<Sum = L::Sum>>(lines: Matrix<'_, T>, panels: Panels, out: &mut [L::Sum]) {
    let depth = lines.size[1];
    for steps in (0..depth).step_by(STEPS) {
        let steps = steps..depth.min(steps + STEPS);
        for panel in panels.iter() {
            let out = &mut out[panel.lines.start * depth..];
            let end = panel.lines.len().next_multiple_of(L::N);
            // A panel's last steps must not spill into the next panel, whose first steps are there already.
            let inside = (depth * panel.width).checked_sub(end).map_or(0, |last| last / panel.width + 1);
            let reaches = lines.reaches(panel.lines.start, steps.end - 1, end);
            let whole = if reaches { inside.clamp(steps.start, steps.end) } else { steps.start };
            // SAFETY: the caller vouches for the instructions; the elements that are read exist, as was just checked for
            // the last step; what is written past a step's room is written again by the next.
            unsafe {
                match end / L::N {
                    1 => copy::<L, T, 1>(lines, &panel, steps.start..whole, out),
                    _ => copy::<L, T, 2>(lines, &panel, steps.start..whole, out),
                }
            }
            scattered(lines, &panel, whole..steps.end, out);
        }
    }
}

/// Copies `R` registers of each step.
///
/// # Safety
/// The CPU has the register's instructions; `R` registers are readable at each step of the panel, and fit `out`.
#[inline(always)]
unsafe fn copy<L: Lanes, T: Scalar<Sum = L::Sum>, const R: usize>(
    lines: Matrix<'_, T>,
    panel: &Panel,
    steps: Range<usize>,
    out: &mut [L::Sum],
) {
    for p in steps {
        let from = lines.pointer(panel.lines.start, p);
        // SAFETY: the caller's.
        unsafe {
            let registers: [L; R] = std::array::from_fn(|r| widen(from.add(r * L::N)));
            let to = out.as_mut_ptr().add(p * panel.width);
            registers.iter().enumerate().for_each(|(r, register)| register.store(to.add(r * L::N)));
        }
    }
}

/// Any strides.
#[inline(always)]
fn scattered<T: Scalar>(lines: Matrix<'_, T>, panel: &Panel, steps: Range<usize>, out: &mut [T::Sum]) {
    for p in steps {
        for (i, to) in panel.lines.clone().zip(&mut out[p * panel.width..]) {
            *to = lines.at(i, p).widen();
        }
    }
}

/// # Safety
/// `N` elements are readable at `from`.
#[inline(always)]
unsafe fn widen<L: Lanes, T: Scalar<Sum = L::Sum>>(from: *const T) -> L {
    let mut numbers = [L::Sum::ZERO; MOST_LANES];
    for (i, number) in numbers.iter_mut().enumerate().take(L::N) {
        // SAFETY: the caller's.
        *number = unsafe { from.add(i).read() }.widen();
    }
    // SAFETY: the array holds a register.
    unsafe { L::load(numbers.as_ptr()) }
}

/// Lines that will soon be read, in the order of memory.
struct Ahead<'a, T> {
    lines: Matrix<'a, T>,
    at: [usize; 2],
}

impl<'a, T: Copy> Ahead<'a, T> {
    fn new(lines: Matrix<'a, T>) -> Self {
        Self { lines, at: [0, 0] }
    }

    /// Brings the next `count` cache lines nearer, as far as the line reaches.
    #[inline(always)]
    fn bring(&mut self, count: usize) {
        let [line, p] = self.at;
        if line < self.lines.size[0] {
            let from = self.lines.pointer(line, p).cast::<i8>();
            for i in 0..count.max(1) {
                // SAFETY: a hint; it may point anywhere.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(i * CACHE_LINE)) }
            }
            let p = p + count.max(1) * CACHE_LINE / size_of::<T>();
            self.at = if p < self.lines.size[1] { [line, p] } else { [line + 1, 0] };
        }
    }
}

/// Brings numbers that will soon be written nearer.
#[inline(always)]
pub(super) fn bring<T>(numbers: &[T]) {
    for at in (0..numbers.len()).step_by(CACHE_LINE / size_of::<T>()) {
        // SAFETY: a hint.
        unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const numbers[at]).cast()) }
    }
}
