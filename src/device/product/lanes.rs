use std::arch::x86_64::*;

use super::near::{self, Place};
use crate::device::Float;

/// Most lanes of any register, and the side of the squares that are transposed in registers.
pub(super) const MOST_LANES: usize = 16;

/// A register of `N` numbers, and the loops that are compiled for the instructions it needs.
pub trait Lanes: Copy {
    /// What a lane holds.
    type Sum: Float;
    /// Number of lanes.
    const N: usize;
    /// Most rows of a tile; at most `N`.
    const ROWS: usize;

    /// # Safety
    /// The CPU has this register's instructions, here and below.
    unsafe fn splat(x: Self::Sum) -> Self;
    /// # Safety
    /// `N` numbers are readable at `from`.
    unsafe fn load(from: *const Self::Sum) -> Self;
    /// # Safety
    /// `N` numbers are writable at `to`.
    unsafe fn store(self, to: *mut Self::Sum);
    /// `x * y + self`, each lane rounded once.
    ///
    /// # Safety
    /// As for [`Lanes::splat`].
    unsafe fn fma(self, x: Self, y: Self) -> Self;
    /// Lane j of register i becomes lane i of register j, over the first `N` registers.
    ///
    /// # Safety
    /// As for [`Lanes::splat`].
    unsafe fn transpose(square: &mut [Self; MOST_LANES]);

    /// [`near::body`] in these instructions, for `rows` rows and `columns / N` registers a row: one or two.
    ///
    /// # Safety
    /// As for [`Lanes::splat`] and [`near::body`].
    unsafe fn near(rows: usize, columns: usize, place: Place<Self::Sum>);
}

/// The registers that serve an accumulator.
pub trait Vectored: Sized {
    /// AVX-512.
    type Wide: Lanes<Sum = Self>;
    /// AVX2 and FMA.
    type Narrow: Lanes<Sum = Self>;
}

impl Vectored for f32 {
    type Wide = __m512;
    type Narrow = __m256;
}

impl Vectored for f64 {
    type Wide = __m512d;
    type Narrow = __m256d;
}

macro_rules! lanes {
    ($v:ty, $sum:ty, $n:literal, $features:literal, [$($rows:literal)+], $transpose:path,
     $splat:ident $load:ident $store:ident $fma:ident) => {
        impl Lanes for $v {
            type Sum = $sum;
            const N: usize = $n;
            const ROWS: usize = [$($rows),+].len();

            #[inline(always)]
            unsafe fn splat(x: $sum) -> Self {
                // SAFETY: the caller's.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $sum) -> Self {
                // SAFETY: the caller's.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $sum) {
                // SAFETY: the caller's.
                unsafe { $store(to, self) }
            }
            #[inline(always)]
            unsafe fn fma(self, x: Self, y: Self) -> Self {
                // SAFETY: the caller's.
                unsafe { $fma(x, y, self) }
            }
            #[inline(always)]
            unsafe fn transpose(square: &mut [Self; MOST_LANES]) {
                // SAFETY: the caller's.
                unsafe { $transpose(square) }
            }
            #[target_feature(enable = $features)]
            unsafe fn near(rows: usize, columns: usize, place: Place<$sum>) {
                // SAFETY: the caller's.
                unsafe {
                    match (rows, columns == 2 * $n) {
                        $(($rows, true) => near::body::<Self, $rows, 2>(place),
                        ($rows, false) => near::body::<Self, $rows, 1>(place),)+
                        _ => unreachable!("a strip has 1 to {} rows, not {rows}", Self::ROWS),
                    }
                }
            }
        }
    };
}

lanes!(__m512, f32, 16, "avx512f", [1 2 3 4 5 6 7 8 9 10 11 12], transpose_16x16,
    _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_fmadd_ps);
lanes!(__m256, f32, 8, "avx2,fma", [1 2 3 4 5 6], transpose_8x8,
    _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_fmadd_ps);
lanes!(__m512d, f64, 8, "avx512f", [1 2 3 4 5 6 7 8], transpose_in_memory,
    _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_fmadd_pd);
lanes!(__m256d, f64, 4, "avx2,fma", [1 2 3 4], transpose_in_memory,
    _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_fmadd_pd);

/// For the reference type, whose speed is of no interest.
#[inline(always)]
unsafe fn transpose_in_memory<V: Lanes>(square: &mut [V; MOST_LANES]) {
    let mut numbers = [[V::Sum::ZERO; MOST_LANES]; MOST_LANES];
    for i in 0..V::N {
        // SAFETY: a row of the array holds a register.
        unsafe { square[i].store(numbers[i].as_mut_ptr()) }
    }
    for (j, register) in square.iter_mut().enumerate().take(V::N) {
        let column: [V::Sum; MOST_LANES] = std::array::from_fn(|i| numbers[i][j]);
        // SAFETY: as above.
        *register = unsafe { V::load(column.as_ptr()) };
    }
}

#[inline(always)]
unsafe fn transpose_16x16(r: &mut [__m512; MOST_LANES]) {
    // SAFETY: the caller vouches for AVX-512F; nothing here touches memory.
    unsafe {
        // Inside 128-bit quarters: groups of four rows turn into groups of four columns.
        for g in (0..16).step_by(4) {
            let (a, b) = (_mm512_unpacklo_ps(r[g], r[g + 1]), _mm512_unpackhi_ps(r[g], r[g + 1]));
            let (c, d) = (_mm512_unpacklo_ps(r[g + 2], r[g + 3]), _mm512_unpackhi_ps(r[g + 2], r[g + 3]));
            r[g] = _mm512_shuffle_ps::<0x44>(a, c);
            r[g + 1] = _mm512_shuffle_ps::<0xee>(a, c);
            r[g + 2] = _mm512_shuffle_ps::<0x44>(b, d);
            r[g + 3] = _mm512_shuffle_ps::<0xee>(b, d);
        }
        // Then the quarters themselves, as a 4 x 4 matrix.
        for i in 0..4 {
            let (a, b, c, d) = (r[i], r[i + 4], r[i + 8], r[i + 12]);
            let (e, f) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            let (g, h) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
            r[i] = _mm512_shuffle_f32x4::<0x88>(e, g);
            r[i + 4] = _mm512_shuffle_f32x4::<0x88>(f, h);
            r[i + 8] = _mm512_shuffle_f32x4::<0xdd>(e, g);
            r[i + 12] = _mm512_shuffle_f32x4::<0xdd>(f, h);
        }
    }
}

#[inline(always)]
unsafe fn transpose_8x8(r: &mut [__m256; MOST_LANES]) {
    // SAFETY: the caller vouches for AVX2; nothing here touches memory.
    unsafe {
        for g in [0, 4] {
            let (a, b) = (_mm256_unpacklo_ps(r[g], r[g + 1]), _mm256_unpackhi_ps(r[g], r[g + 1]));
            let (c, d) = (_mm256_unpacklo_ps(r[g + 2], r[g + 3]), _mm256_unpackhi_ps(r[g + 2], r[g + 3]));
            r[g] = _mm256_shuffle_ps::<0x44>(a, c);
            r[g + 1] = _mm256_shuffle_ps::<0xee>(a, c);
            r[g + 2] = _mm256_shuffle_ps::<0x44>(b, d);
            r[g + 3] = _mm256_shuffle_ps::<0xee>(b, d);
        }
        for i in 0..4 {
            let (a, b) = (r[i], r[i + 4]);
            r[i] = _mm256_permute2f128_ps::<0x20>(a, b);
            r[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
        }
    }
}
