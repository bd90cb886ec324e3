//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a random number is a pure function
//! of a key and a counter, so that what is drawn for one token depends on nothing that shares its batch.
//!
//! Derivation: the request's 128 bits are Philox under the user's seed at counter (step, group, sample). Under one seed this
//! is a bijection: no two requests share their bits. The first half then keys the request's own draws, the second half is the
//! upper half of their counters, whose lower half is (vocabulary id / 4, position); word `id % 4` of the block belongs to the id.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// Words in a block.
pub const BLOCK: usize = 4;
/// Blocks that [`Key::blocks`] makes at once, in the registers of one vector unit.
pub const WIDTH: usize = 8;

/// One block of four random words.
#[inline(always)]
pub fn philox4x32(key: [u32; 2], counter: [u32; BLOCK]) -> [u32; BLOCK] {
    let ([mut k0, mut k1], [mut a, mut b, mut c, mut d]) = (key, counter);
    for _ in 0..ROUNDS {
        let p = u64::from(MULTIPLIERS[0]) * u64::from(a);
        let q = u64::from(MULTIPLIERS[1]) * u64::from(c);
        (a, b, c, d) = ((q >> 32) as u32 ^ b ^ k0, q as u32, (p >> 32) as u32 ^ d ^ k1, p as u32);
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
    [a, b, c, d]
}

/// The random numbers of one request. The same struct in CUDA.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Key {
    key: [u32; 2],
    upper: [u32; 2],
}

impl Key {
    /// Of the user's seed, the training step, the group within it and the sample within that.
    pub fn of_request(run: u64, step: u64, group: u32, sample: u32) -> Self {
        let halves = |x: u64| [x as u32, (x >> 32) as u32];
        let [low, high] = halves(step);
        let [a, b, c, d] = philox4x32(halves(run), [low, high, group, sample]);
        Self { key: [a, b], upper: [c, d] }
    }

    /// Of the user's seed, an update of the weights (from 1) and a parameter's place: what rounds it. No request has this sample.
    pub fn of_update(run: u64, update: u64, parameter: u32) -> Self {
        Self::of_request(run, update, parameter, u32::MAX)
    }

    /// The words of vocabulary ids `4 * block` to `4 * block + 3` at `position`.
    #[inline(always)]
    pub fn block(&self, position: u32, block: u32) -> [u32; BLOCK] {
        philox4x32(self.key, [block, position, self.upper[0], self.upper[1]])
    }

    /// The words of [`WIDTH`] consecutive blocks from `first` on: word k of block `first + i` at `[k][i]`.
    #[inline(always)]
    pub fn blocks(&self, position: u32, first: u32) -> [[u32; WIDTH]; BLOCK] {
        let [mut k0, mut k1] = self.key;
        let mut a: [u32; WIDTH] = std::array::from_fn(|i| first + i as u32);
        let [mut b, mut c, mut d] = [position, self.upper[0], self.upper[1]].map(|word| [word; WIDTH]);
        for _ in 0..ROUNDS {
            for i in 0..WIDTH {
                let p = u64::from(MULTIPLIERS[0]) * u64::from(a[i]);
                let q = u64::from(MULTIPLIERS[1]) * u64::from(c[i]);
                a[i] = (q >> 32) as u32 ^ b[i] ^ k0;
                b[i] = q as u32;
                c[i] = (p >> 32) as u32 ^ d[i] ^ k1;
                d[i] = p as u32;
            }
            (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
        }
        [a, b, c, d]
    }

    /// The word of one vocabulary id at `position`.
    pub fn word(&self, position: u32, id: u32) -> u32 {
        self.block(position, id / BLOCK as u32)[id as usize % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_equals_the_published_vectors() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        for (key, counter, expected) in [
            ([0; 2], [0; 4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 2], [u32::MAX; 4], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            ([0xa409_3822, 0x299f_31d0], pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ] {
            assert_eq!(philox4x32(key, counter), expected);
        }
    }

    #[test]
    fn many_blocks_at_once_are_the_single_ones() {
        let key = Key::of_request(1, 2, 3, 4);
        let many = key.blocks(7, 40);
        for i in 0..WIDTH {
            assert_eq!(many.map(|words| words[i]), key.block(7, 40 + i as u32));
        }
    }

    #[test]
    fn every_part_of_the_seed_changes_the_numbers() {
        let words = |key: Key, position| (0..8).map(|id| key.word(position, id)).collect::<Vec<_>>();
        let base = words(Key::of_request(1, 2, 3, 4), 5);
        for other in [(9, 2, 3, 4, 5), (1, 9, 3, 4, 5), (1, 2, 9, 4, 5), (1, 2, 3, 9, 5), (1, 2, 3, 4, 9)] {
            let (run, step, group, sample, position) = other;
            let other = words(Key::of_request(run, step, group, sample), position);
            assert!(base.iter().zip(&other).all(|(a, b)| a != b));
        }
        assert_ne!(Key::of_request(0, 1 << 32, 0, 0), Key::of_request(0, 0, 1, 0));
    }

    #[test]
    fn updates_and_parameters_draw_numbers_of_their_own() {
        let base = Key::of_update(1, 2, 3);
        for other in [
            Key::of_update(9, 2, 3),
            Key::of_update(1, 9, 3),
            Key::of_update(1, 2, 9),
            Key::of_request(1, 2, 3, 0),
        ] {
            assert!((0..8).all(|block| base.block(0, block) != other.block(0, block)));
        }
    }
}
