use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::Matrix;
use super::lanes::{Lanes, MOST_LANES};
use crate::device::{Float, Scalar};

/// Numbers that [`body`] may write past the end of a strip.
pub(super) const SLACK: usize = MOST_LANES;

/// Lays a strip (rows of a, or columns of b, along one leaf of k) out as a tile reads it: line i at step p goes to
/// `out[p * width + i]`. Lines from the strip's own count up to `width`, and [`SLACK`], receive anything.
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
pub(super) unsafe fn body<L: Lanes, T: Scalar<Sum = L::Sum>>(
    strip: Matrix<'_, T>,
    width: usize,
    out: &mut [L::Sum],
) {
    let [lines, depth] = strip.size;
    assert!(lines <= width && out.len() >= depth * width + SLACK, "room for a packed strip");
    // SAFETY: the caller's, and the assertion gives each body the room it needs.
    match strip.stride {
        [_, 1] => unsafe { across::<L, T>(strip, width, out) },
        [1, _] => unsafe { along::<L, T>(strip, width, out) },
        _ => scattered(strip, width, 0, out),
    }
}

/// Each line is contiguous: squares are transposed in registers.
#[inline(always)]
unsafe fn across<L: Lanes, T: Scalar<Sum = L::Sum>>(strip: Matrix<'_, T>, width: usize, out: &mut [L::Sum]) {
    let [lines, depth] = strip.size;
    let whole = depth - depth % L::N;
    for p in (0..whole).step_by(L::N) {
        for first in (0..lines).step_by(L::N) {
            // SAFETY: the caller vouches for the instructions; lines below `lines` hold N elements from p on; the stores
            // end at most N - 1 numbers past the strip's last, and what they spill over is stored later.
            unsafe {
                let mut square = [L::splat(L::Sum::ZERO); MOST_LANES];
                for i in 0..L::N {
                    if first + i < lines {
                        let from = strip.pointer(first + i, p);
                        prefetch(from.wrapping_add(width * strip.stride[0]));
                        square[i] = widen(from);
                    }
                }
                L::transpose(&mut square);
                for (i, register) in square.iter().enumerate().take(L::N) {
                    register.store(out.as_mut_ptr().add((p + i) * width + first));
                }
            }
        }
    }
    scattered(strip, width, whole, out);
}

/// Each step is contiguous: registers are copied.
#[inline(always)]
unsafe fn along<L: Lanes, T: Scalar<Sum = L::Sum>>(strip: Matrix<'_, T>, width: usize, out: &mut [L::Sum]) {
    let [lines, depth] = strip.size;
    for p in 0..depth {
        for first in (0..lines).step_by(L::N) {
            let out = &mut out[p * width + first..];
            if strip.reaches(first, p, L::N) {
                // SAFETY: N elements lie behind the pointer, and N numbers fit: the strip's own and its slack.
                unsafe {
                    let from = strip.pointer(first, p);
                    prefetch(from.wrapping_add(width));
                    widen::<L, T>(from).store(out.as_mut_ptr());
                }
            } else {
                (first..lines).zip(out).for_each(|(i, to)| *to = strip.at(i, p).widen());
            }
        }
    }
}

/// Any strides, from step `from` on.
#[inline(always)]
fn scattered<T: Scalar>(strip: Matrix<'_, T>, width: usize, from: usize, out: &mut [T::Sum]) {
    for p in from..strip.size[1] {
        for (i, to) in out[p * width..].iter_mut().enumerate().take(strip.size[0]) {
            *to = strip.at(i, p).widen();
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

/// Brings the line at `from`, which the next strip will read, nearer.
#[inline(always)]
fn prefetch<T>(from: *const T) {
    // SAFETY: a hint; it may point anywhere.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
}
