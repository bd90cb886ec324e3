use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use bytemuck::Pod;

use super::product::{Kernels, Vectored};

/// Arithmetic that an accumulator offers.
pub trait Arithmetic:
    Sized
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
}

impl Arithmetic for f32 {}
impl Arithmetic for f64 {}

/// A type that sums are kept in: f32 for the backends, f64 for the reference.
pub trait Float: Pod + Send + Sync + Debug + Display + Default + PartialOrd + Arithmetic + Vectored {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity: the score of a masked key.
    const NEG_INFINITY: Self;

    /// Nearest value.
    fn from_f64(x: f64) -> Self;
    /// Exact value.
    fn to_f64(self) -> f64;
    /// `self * a + b`, rounded once.
    fn fma(self, a: Self, b: Self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// e to the power of `self`: the one definition that every operator uses, scalar or vectorised.
    fn exp(self) -> Self;
    /// Natural logarithm, the same bits on every machine.
    fn ln(self) -> Self;
    /// Whether this is not a number.
    fn is_nan(self) -> bool;
    /// Whether this is neither infinite nor NaN.
    fn is_finite(self) -> bool;

    /// The larger one; NaN if either is NaN.
    fn max(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }
    /// The smaller one; NaN if either is NaN.
    fn min(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }
    /// Absolute value.
    fn abs(self) -> Self {
        if self < Self::ZERO { -self } else { self }
    }
}

macro_rules! float {
    ($t:ty, $exp:path, $ln:path) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;

            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn fma(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
        }
    };
}

float!(f32, super::exp::exp_f32, libm::logf);
float!(f64, libm::exp, libm::log);

/// A storage type: how an element turns into its accumulator and back.
pub trait Scalar: Pod + Send + Sync + Kernels {
    /// What sums are kept in.
    type Sum: Float;
    /// Exact value.
    fn widen(self) -> Self::Sum;
    /// Nearest value, ties to even.
    fn narrow(sum: Self::Sum) -> Self;
}

macro_rules! own_sum {
    ($t:ty) => {
        impl Scalar for $t {
            type Sum = $t;
            #[inline(always)]
            fn widen(self) -> $t {
                self
            }
            #[inline(always)]
            fn narrow(sum: $t) -> $t {
                sum
            }
        }
    };
}

own_sum!(f32);
own_sum!(f64);

impl Scalar for half::bf16 {
    type Sum = f32;
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn narrow(sum: f32) -> Self {
        // Round to nearest even on the upper half, without a branch except for NaN.
        let bits = sum.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet = (bits >> 16) | 0x40;
        Self::from_bits(if sum.is_nan() { quiet } else { rounded } as u16)
    }
}
