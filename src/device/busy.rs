//! What the host can do at most, measured by work that does nothing else: the yardstick of benchmarks.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::product::busy;
use super::{Host, Scalar};

/// Independent chains of multiply-adds in each round, enough to hide their latency.
pub(super) const CHAINS: usize = 16;

/// Keeps every thread multiplying and adding operands of `T` in registers for `rounds` rounds, as fast as the CPU can. Returns the
/// floating-point operations done.
pub fn multiply_adds<T: Scalar>(host: &Host, rounds: usize) -> f64 {
    let done = AtomicUsize::new(0);
    host.run(vec![(); host.threads()], |()| {
        let rounds = std::hint::black_box(rounds);
        done.fetch_add(busy::multiply_adds::<T>(rounds), Ordering::Relaxed);
    });
    done.into_inner() as f64
}

/// Reads all of `bytes` once, on all threads, in parts of one megabyte.
pub fn read(host: &Host, bytes: &[u8]) {
    const PART: usize = 1 << 20;
    let parts: Vec<_> = bytes.chunks(PART).collect();
    host.run(parts, |part| {
        let (words, rest) = part.as_chunks::<256>();
        let mut sums = [0u64; 32];
        for word in words {
            for (sum, bytes) in sums.iter_mut().zip(word.as_chunks::<8>().0) {
                *sum ^= u64::from_ne_bytes(*bytes);
            }
        }
        std::hint::black_box((sums, rest.iter().fold(0, |a, b| a ^ b)));
    });
}
