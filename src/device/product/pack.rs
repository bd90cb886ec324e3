use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

use super::Matrix;
use super::kernel::{Kernel, Sum};
use super::lanes::{Lanes, MOST_LANES};
use super::panels::{Panel, Panels};
use crate::device::Float;

/// Words that [`body`] may write past the end of the panels.
pub(super) const SLACK: usize = MOST_LANES;

/// Bytes that come from memory at once.
const CACHE_LINE: usize = 64;

/// Words that [`along`] takes through all panels at once: as many lines as one set of the first-level cache holds.
const TURNS: usize = 8;

/// What is packed: lines (rows of a, or columns of b) along one leaf of k, how they are cut into panels, and the lines that
/// will be packed after them, which are brought nearer meanwhile.
#[derive(Clone, Copy)]
pub struct Strip<'a, T> {
    pub(super) lines: Matrix<'a, T>,
    pub(super) panels: Panels,
    pub(super) next: Matrix<'a, T>,
}

/// Lays lines out as tiles read them: panel after panel, line i of a panel at turn t in `t * width + i`. What lies between a
/// panel's lines and its width, and [`SLACK`], receives anything.
///
/// # Safety
/// The CPU has the kernel's instructions.
#[inline(always)]
pub(super) unsafe fn body<K: Kernel>(strip: Strip<'_, K::Operand>, out: &mut [K::Word]) {
    let Strip { lines, panels, next } = strip;
    let depth = lines.size[1].div_ceil(K::STEPS);
    assert!(out.len() >= panels.room() * depth + SLACK, "room for packed panels");
    match lines.stride {
        [_, 1] => {
            for panel in panels.iter() {
                let rest = lines.rows(panel.lines.end..lines.size[0]);
                let mut ahead = Ahead::new(if rest.size[0] == 0 { next } else { rest });
                // SAFETY: the caller's; the assertion leaves the panel its room.
                unsafe { across::<K>(lines, &panel, &mut ahead, &mut out[panel.lines.start * depth..]) }
            }
        }
        // SAFETY: as above.
        [1, _] => unsafe { along::<K>(lines, panels, out) },
        _ => {
            for panel in panels.iter() {
                scattered::<K>(lines, &panel, 0..depth, &mut out[panel.lines.start * depth..]);
            }
        }
    }
}

/// Each line is contiguous: squares are transposed in registers.
#[inline(always)]
unsafe fn across<K: Kernel>(
    lines: Matrix<'_, K::Operand>,
    panel: &Panel,
    ahead: &mut Ahead<'_, K::Operand>,
    out: &mut [K::Word],
) {
    let lanes = K::Register::N;
    let (depth, complete) = (lines.size[1].div_ceil(K::STEPS), lines.size[1] / K::STEPS);
    let whole = complete - complete % lanes;
    // One square's lines after another: twice as many at once would share too few ways of the first-level cache.
    for first in panel.lines.clone().step_by(lanes) {
        for p in (0..whole).step_by(lanes) {
            ahead.bring(lanes * lanes * size_of::<K::Word>() / CACHE_LINE);
            let count = lanes.min(panel.lines.end - first);
            let to = p * panel.width + first - panel.lines.start;
            // SAFETY: the caller vouches for the instructions; each line holds N words from p on; the stores end at
            // most N - 1 words past the panel, and what they spill over is stored later.
            unsafe {
                // Where lines are missing, the last one stands in for them.
                let mut square = [K::Register::splat(Sum::<K>::ZERO); MOST_LANES];
                for (i, line) in square.iter_mut().enumerate().take(lanes) {
                    *line = K::line(lines.pointer(first + i.min(count - 1), p * K::STEPS));
                }
                K::Register::transpose(&mut square);
                for turn in 0..lanes {
                    let to = out.as_mut_ptr().add(to + turn * panel.width);
                    square[K::order(turn, lanes)].store(to.cast());
                }
            }
        }
    }
    scattered::<K>(lines, panel, whole..depth, out);
}

/// Each step is contiguous: registers are copied.
#[inline(always)]
unsafe fn along<K: Kernel>(lines: Matrix<'_, K::Operand>, panels: Panels, out: &mut [K::Word]) {
    let lanes = K::Register::N;
    let (depth, complete) = (lines.size[1].div_ceil(K::STEPS), lines.size[1] / K::STEPS);
    for turns in (0..depth).step_by(TURNS) {
        let turns = turns..depth.min(turns + TURNS);
        for panel in panels.iter() {
            let out = &mut out[panel.lines.start * depth..];
            let end = panel.lines.len().next_multiple_of(lanes);
            // A panel's last turns must not spill into the next panel, whose first turns are there already.
            let inside = (depth * panel.width).checked_sub(end).map_or(0, |last| last / panel.width + 1);
            let last = turns.end.min(complete) * K::STEPS;
            let reaches = last > 0 && lines.reaches(panel.lines.start, last - 1, end);
            let whole =
                if reaches { inside.min(complete).clamp(turns.start, turns.end) } else { turns.start };
            // SAFETY: the caller vouches for the instructions; the elements that are read exist, as was just checked for
            // the last step; what is written past a turn's room is written again by the next.
            unsafe {
                match end / lanes {
                    1 => copy::<K, 1>(lines, &panel, turns.start..whole, out),
                    _ => copy::<K, 2>(lines, &panel, turns.start..whole, out),
                }
            }
            scattered::<K>(lines, &panel, whole..turns.end, out);
        }
    }
}

/// Copies `R` registers of each turn.
///
/// # Safety
/// The CPU has the kernel's instructions; `R` registers are readable at each step of the panel, and fit `out`.
#[inline(always)]
unsafe fn copy<K: Kernel, const R: usize>(
    lines: Matrix<'_, K::Operand>,
    panel: &Panel,
    turns: Range<usize>,
    out: &mut [K::Word],
) {
    let (lanes, depth) = (K::Register::N, lines.size[1].div_ceil(K::STEPS));
    for turn in turns {
        let from = lines.pointer(panel.lines.start, K::order(turn, depth) * K::STEPS);
        // SAFETY: the caller's.
        unsafe {
            let registers: [K::Register; R] =
                std::array::from_fn(|r| K::step(from.add(r * lanes), lines.stride[1]));
            let to = out.as_mut_ptr().add(turn * panel.width);
            registers.iter().enumerate().for_each(|(r, register)| register.store(to.add(r * lanes).cast()));
        }
    }
}

/// Any strides.
#[inline(always)]
fn scattered<K: Kernel>(
    lines: Matrix<'_, K::Operand>,
    panel: &Panel,
    turns: Range<usize>,
    out: &mut [K::Word],
) {
    let depth = lines.size[1].div_ceil(K::STEPS);
    for turn in turns {
        let p = K::order(turn, depth);
        for (i, to) in panel.lines.clone().zip(&mut out[turn * panel.width..]) {
            *to = K::word(&lines, i, p);
        }
    }
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
