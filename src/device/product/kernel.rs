use std::arch::x86_64::*;
use std::marker::PhantomData;

use bytemuck::Pod;
use half::bf16;

use super::lanes::{Lanes, MOST_LANES};
use super::pack::{self, Strip};
use super::tile::{self, Sums};
use super::{Matrix, busy};
use crate::device::{Float, Scalar};

/// What a kernel sums in.
pub(super) type Sum<K> = <<K as Kernel>::Operand as Scalar>::Sum;

/// Two operands of one storage type, packed into words and multiplied in registers. A word holds consecutive steps of k of one
/// line, a register the same word of `N` lines.
pub trait Kernel {
    /// What the operands hold.
    type Operand: Scalar;
    /// What they are packed into.
    type Word: Pod;
    /// A register of sums, or of as many words.
    type Register: Lanes<Sum = Sum<Self>>;
    /// Steps of k in a word.
    const STEPS: usize;
    /// Most rows of a tile; at most a register's lanes.
    const ROWS: usize;

    /// Whether the CPU has the kernel's instructions.
    fn runs() -> bool;
    /// `sum` and the products of the words `x` and `y`, in the contract's order.
    ///
    /// # Safety
    /// The CPU has the kernel's instructions, here and below.
    unsafe fn multiply(sum: Self::Register, x: Self::Register, y: Self::Register) -> Self::Register;
    /// The words of one line from `from` on.
    ///
    /// # Safety
    /// `N * STEPS` elements are readable at `from`.
    unsafe fn line(from: *const Self::Operand) -> Self::Register;
    /// One word of each of the lines from `from` on, `stride` elements from one step to the next.
    ///
    /// # Safety
    /// `N` elements are readable at each step of the word.
    unsafe fn step(from: *const Self::Operand, stride: usize) -> Self::Register;
    /// Word `p` of line `i`; steps behind the end count as 0.
    fn word(lines: &Matrix<'_, Self::Operand>, i: usize, p: usize) -> Self::Word;
    /// Which of `depth` words is the `turn`th to be multiplied.
    fn order(turn: usize, depth: usize) -> usize;

    /// [`pack::body`] in these instructions.
    ///
    /// # Safety
    /// As for [`pack::body`].
    unsafe fn pack(strip: Strip<'_, Self::Operand>, out: &mut [Self::Word]);
    /// [`tile::body`] in these instructions, for `rows` rows and `out.0.len() / rows / N` registers a row: one or two.
    ///
    /// # Safety
    /// As for [`tile::body`].
    unsafe fn tile(rows: usize, a: &[Self::Word], b: &[Self::Word], out: (&mut [Sum<Self>], Sums));
    /// [`busy::body`] in these instructions.
    ///
    /// # Safety
    /// The CPU has the kernel's instructions.
    unsafe fn spin(rounds: usize, out: &mut [Sum<Self>; MOST_LANES]);
}

/// A word is one element, widened. `SWAP` is 0 for steps in ascending order, 1 for ascending pairs with the odd step first.
pub struct Widened<L, T, const SWAP: usize>(PhantomData<(L, T)>);

/// A word is a pair of bf16; an instruction multiplies and adds both, the odd step first.
pub struct Pairs;

/// The kernels that serve a storage type; the first that the CPU runs is taken.
pub trait Kernels: Sized {
    /// With an instruction of its own, if there is one.
    type Best: Kernel<Operand = Self>;
    /// AVX-512.
    type Wide: Kernel<Operand = Self>;
    /// AVX2 and FMA, which every supported CPU has.
    type Narrow: Kernel<Operand = Self>;
}

impl Kernels for f32 {
    type Best = Self::Wide;
    type Wide = Widened<__m512, f32, 0>;
    type Narrow = Widened<__m256, f32, 0>;
}

impl Kernels for f64 {
    type Best = Self::Wide;
    type Wide = Widened<__m512d, f64, 0>;
    type Narrow = Widened<__m256d, f64, 0>;
}

impl Kernels for bf16 {
    type Best = Pairs;
    type Wide = Widened<__m512, bf16, 1>;
    type Narrow = Widened<__m256, bf16, 1>;
}

/// The functions that are compiled for a kernel's instructions.
macro_rules! compiled {
    ([$($feature:tt)+], [$($rows:literal)+]) => {
        const ROWS: usize = [$($rows),+].len();

        fn runs() -> bool {
            $(is_x86_feature_detected!($feature))&&+
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn pack(strip: Strip<'_, Self::Operand>, out: &mut [Self::Word]) {
            // SAFETY: the caller's.
            unsafe { pack::body::<Self>(strip, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn tile(rows: usize, a: &[Self::Word], b: &[Self::Word], out: (&mut [Sum<Self>], Sums)) {
            let full = out.0.len() == 2 * rows * Self::Register::N;
            // SAFETY: the caller's.
            unsafe {
                match (rows, full) {
                    $(($rows, true) => tile::body::<Self, $rows, 2>(a, b, out),
                    ($rows, false) => tile::body::<Self, $rows, 1>(a, b, out),)+
                    _ => unreachable!("a tile has 1 to {} rows, not {rows}", Self::ROWS),
                }
            }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn spin(rounds: usize, out: &mut [Sum<Self>; MOST_LANES]) {
            // SAFETY: the caller's.
            unsafe { busy::body::<Self>(rounds, out) }
        }
    };
}

macro_rules! widened {
    ($register:ty, $t:ty, $swap:literal, $features:tt, $rows:tt) => {
        impl Kernel for Widened<$register, $t, $swap> {
            type Operand = $t;
            type Word = <$t as Scalar>::Sum;
            type Register = $register;
            const STEPS: usize = 1;

            #[inline(always)]
            unsafe fn multiply(sum: $register, x: $register, y: $register) -> $register {
                // SAFETY: the caller's.
                unsafe { sum.fma(x, y) }
            }
            #[inline(always)]
            unsafe fn line(from: *const $t) -> $register {
                // SAFETY: the caller's.
                unsafe { widen(from) }
            }
            #[inline(always)]
            unsafe fn step(from: *const $t, _: usize) -> $register {
                // SAFETY: the caller's.
                unsafe { widen(from) }
            }
            #[inline(always)]
            fn word(lines: &Matrix<'_, $t>, i: usize, p: usize) -> Self::Word {
                lines.at(i, p).widen()
            }
            #[inline(always)]
            fn order(turn: usize, depth: usize) -> usize {
                // A last step without a partner keeps its turn.
                if turn ^ $swap < depth { turn ^ $swap } else { turn }
            }
            compiled!($features, $rows);
        }
    };
}

widened!(__m512, f32, 0, ["avx512f"], [1 2 3 4 5 6 7 8 9 10 11 12]);
widened!(__m256, f32, 0, ["avx2" "fma"], [1 2 3 4 5 6]);
widened!(__m512d, f64, 0, ["avx512f"], [1 2 3 4 5 6 7 8]);
widened!(__m256d, f64, 0, ["avx2" "fma"], [1 2 3 4]);
widened!(__m512, bf16, 1, ["avx512f"], [1 2 3 4 5 6 7 8 9 10 11 12]);
widened!(__m256, bf16, 1, ["avx2" "fma"], [1 2 3 4 5 6]);

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

impl Kernel for Pairs {
    type Operand = bf16;
    type Word = u32;
    type Register = __m512;
    const STEPS: usize = 2;

    #[inline(always)]
    unsafe fn multiply(sum: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: the caller vouches for AVX512-BF16; both types are 512 bits of any pattern.
        unsafe {
            _mm512_dpbf16_ps(
                sum,
                std::mem::transmute::<__m512, __m512bh>(x),
                std::mem::transmute::<__m512, __m512bh>(y),
            )
        }
    }
    #[inline(always)]
    unsafe fn line(from: *const bf16) -> __m512 {
        // SAFETY: the caller's: sixteen pairs of two bytes each.
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
    #[inline(always)]
    unsafe fn step(from: *const bf16, stride: usize) -> __m512 {
        // SAFETY: the caller's: sixteen elements at each of two steps.
        unsafe {
            let even = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            let odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.add(stride).cast()));
            _mm512_castsi512_ps(_mm512_or_si512(even, _mm512_slli_epi32::<16>(odd)))
        }
    }
    #[inline(always)]
    fn word(lines: &Matrix<'_, bf16>, i: usize, p: usize) -> u32 {
        let odd = if 2 * p + 1 < lines.size[1] { lines.at(i, 2 * p + 1) } else { bf16::ZERO };
        u32::from(lines.at(i, 2 * p).to_bits()) | u32::from(odd.to_bits()) << 16
    }
    #[inline(always)]
    fn order(turn: usize, _: usize) -> usize {
        turn
    }
    compiled!(["avx512f" "avx512bf16"], [1 2 3 4 5 6 7 8 9 10 11 12]);
}
