use super::Draw;
use crate::device::Float;
use crate::ops::head::maximum;
use crate::ops::philox::{BLOCK, WIDTH};

/// -ln(-ln u) with u = (word + 1/2) / 2^32.
fn gumbel(word: u32) -> f64 {
    let u = (f64::from(word) + 0.5) / (1u64 << 32) as f64;
    -Float::ln(-Float::ln(u))
}

/// At least [`gumbel`], without a logarithm: -ln u >= 1 - u >= 2^-(leading ones + 1), since 1 - u = (!word + 1/2) / 2^32 (and the
/// half itself where all bits of the word are set).
fn gumbel_bound(word: u32) -> f64 {
    f64::from(word.leading_ones() + 1) * (std::f64::consts::LN_2 + 1e-12)
}

/// The best id so far and its z + g.
struct Race {
    best: f64,
    id: u32,
}

impl Race {
    /// Lets an id run. Whoever comes in which order, the same one wins.
    #[inline]
    fn enter<A: Float>(&mut self, id: u32, z: A, word: u32) {
        let z = z.to_f64();
        if z + gumbel_bound(word) < self.best {
            return;
        }
        let score = z + gumbel(word);
        if score > self.best || (score == self.best && id < self.id) {
            (self.best, self.id) = (score, id);
        }
    }
}

/// Gumbel-max over every id of `z`. `likely` is any id: a good one spares logarithms.
pub(super) fn among_all<A: Float>(z: &[A], likely: u32, draw: &Draw) -> u32 {
    let mut race = Race { best: f64::NEG_INFINITY, id: likely };
    race.enter(likely, z[likely as usize], draw.key.word(draw.position, likely));
    let (whole, rest) = z.as_chunks::<{ BLOCK * WIDTH }>();
    for (i, z) in whole.iter().enumerate() {
        let most = maximum(z).to_f64();
        if most + gumbel_bound(u32::MAX) < race.best {
            continue;
        }
        let words = draw.key.blocks(draw.position, (i * WIDTH) as u32);
        // One look at the largest score and the largest word settles nearly every chunk.
        let mut largest = words[0];
        for words in &words[1..] {
            for i in 0..WIDTH {
                largest[i] = largest[i].max(words[i]);
            }
        }
        let word = largest.into_iter().fold(0, u32::max);
        if most + gumbel_bound(word) < race.best {
            continue;
        }
        for (k, z) in z.iter().enumerate() {
            race.enter((i * BLOCK * WIDTH + k) as u32, *z, words[k % BLOCK][k / BLOCK]);
        }
    }
    let start = z.len() - rest.len();
    for (k, z) in rest.iter().enumerate() {
        let id = (start + k) as u32;
        race.enter(id, *z, draw.key.word(draw.position, id));
    }
    race.id
}

/// Gumbel-max over some ids of `z`.
pub(super) fn among<A: Float>(z: &[A], ids: &[u32], draw: &Draw) -> u32 {
    let mut race = Race { best: f64::NEG_INFINITY, id: ids[0] };
    for &id in ids {
        race.enter(id, z[id as usize], draw.key.word(draw.position, id));
    }
    race.id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_never_below_the_number() {
        let edges = (0..32).flat_map(|k| [u32::MAX << k, !(u32::MAX << k), 1 << k, !(1 << k)]);
        let spread = (0..100_000u32).map(|i| i.wrapping_mul(0x9E37_79B9));
        for word in edges.chain(spread).chain([0, u32::MAX]) {
            let (bound, exact) = (gumbel_bound(word), gumbel(word));
            assert!(exact.is_finite() && exact <= bound, "{word:#x}: {exact} above {bound}");
        }
    }
}
