use super::Vectored;
use super::lanes::Lanes;
use crate::device::busy::CHAINS;

/// Lanes of the widest f32 register this CPU has.
pub(in crate::device) fn lanes() -> usize {
    if is_x86_feature_detected!("avx512f") {
        <f32 as Vectored>::Wide::N
    } else {
        <f32 as Vectored>::Narrow::N
    }
}

/// `rounds` multiply-adds in each of [`CHAINS`] registers.
pub(in crate::device) fn multiply_adds(rounds: usize) -> f32 {
    let mut out = [0.0; 16];
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has the instructions; the array holds the register.
        unsafe { <f32 as Vectored>::Wide::spin(rounds, &mut out) }
    } else {
        // SAFETY: the crate is compiled for CPUs with AVX2 and FMA; the array holds the register.
        unsafe { <f32 as Vectored>::Narrow::spin(rounds, &mut out) }
    }
    out.iter().sum()
}

/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
pub(super) unsafe fn body<L: Lanes>(rounds: usize, out: &mut [L::Sum; 16]) {
    // SAFETY: the caller's; a register has at most 16 lanes.
    unsafe {
        let x = L::splat(crate::device::Float::from_f64(0.999));
        let mut chains = [x; CHAINS];
        for _ in 0..rounds {
            for chain in &mut chains {
                *chain = x.fma(*chain, x);
            }
        }
        let one = L::splat(crate::device::Float::from_f64(1.0));
        chains.into_iter().fold(x, |sum, chain| sum.fma(chain, one)).store(out.as_mut_ptr());
    }
}
