use super::Matrix;
use super::kernel::{Kernel, Sum};
use super::lanes::{Lanes, MOST_LANES};
use crate::device::busy::CHAINS;
use crate::device::{Float, Scalar};

/// `rounds` multiply-adds in each of [`CHAINS`] registers of the kernel that serves `T`. Returns the floating-point operations
/// done.
pub(in crate::device) fn multiply_adds<T: Scalar>(rounds: usize) -> usize {
    if T::Best::runs() {
        // SAFETY: the CPU runs the kernel.
        unsafe { spin::<T::Best>(rounds) }
    } else if T::Wide::runs() {
        // SAFETY: the CPU runs the kernel.
        unsafe { spin::<T::Wide>(rounds) }
    } else {
        assert!(T::Narrow::runs(), "an x86-64-v3 CPU");
        // SAFETY: the CPU runs the kernel.
        unsafe { spin::<T::Narrow>(rounds) }
    }
}

/// # Safety
/// The CPU has the kernel's instructions.
unsafe fn spin<K: Kernel>(rounds: usize) -> usize {
    let mut out = [Sum::<K>::ZERO; MOST_LANES];
    // SAFETY: the caller's.
    unsafe { K::spin(rounds, &mut out) }
    std::hint::black_box(out);
    2 * K::STEPS * K::Register::N * CHAINS * rounds
}

/// # Safety
/// The CPU has the kernel's instructions.
#[inline(always)]
pub(super) unsafe fn body<K: Kernel>(rounds: usize, out: &mut [Sum<K>; MOST_LANES]) {
    let numbers = [K::Operand::narrow(Float::from_f64(0.999)); 2];
    let word = [K::word(&Matrix::new(&numbers, 1, K::STEPS), 0, 0)];
    // SAFETY: the caller's; a word is as large as a sum, and a register has at most `MOST_LANES` lanes.
    unsafe {
        let x = K::Register::splat(*word.as_ptr().cast());
        let mut chains = [x; CHAINS];
        for _ in 0..rounds {
            for chain in &mut chains {
                *chain = K::multiply(*chain, x, x);
            }
        }
        let one = K::Register::splat(Sum::<K>::ONE);
        chains.into_iter().fold(x, |sum, chain| sum.fma(chain, one)).store(out.as_mut_ptr());
    }
}
