use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A named stream of blind draws: the same bytes for the same seed, on every machine and version.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream numbered `stream` of `seed`; streams of one seed share no draws.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// An index below `bound`, all alike (the bias of the multiplication is below `bound` / 2^32).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.0.next_u32()) * bound as u64) >> 32) as usize
    }

    /// One of `options`, all alike.
    pub(super) fn one<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())]
    }

    /// Two different ones of `options`, all ordered pairs alike.
    pub(super) fn two<T: Copy>(&mut self, options: &[T]) -> (T, T) {
        let first = self.below(options.len());
        let second = (first + 1 + self.below(options.len() - 1)) % options.len();
        (options[first], options[second])
    }

    /// True with probability `share` (0 to 1).
    pub(super) fn chance(&mut self, share: f64) -> bool {
        f64::from(self.0.next_u32()) < share * 4_294_967_296.0
    }
}
