//! Numbers of 8 bits: blocks of [`BLOCK`] elements, each element a code for its share of the block's largest magnitude (Dettmers
//! et al., arXiv 2110.02861, block-wise dynamic quantisation).
//!
//! A map's numbers stand in seven groups, group n (1 to 7) being evenly spread over the decade that ends at 10^(n - 7): of `size`
//! numbers the k-th is 10^(n - 7) (0.1 + 0.9 (k + 1/2) / size), where size is 2^n, in the signed map 2^(n - 1) for each sign;
//! besides there are 0 and 1, not -1. Codes count them ascending: those of bitsandbytes' and torchao's `create_dynamic_map`.
//!
//! Blocks are torchao's, and small for the paper's 2,048: an element that stands out costs few others their precision, for 1/64
//! byte an element; and they are what a warp holds in registers.

use crate::device::Float;

/// Elements that share a scale.
pub const BLOCK: usize = 256;
/// 0, the seven decades, and 1.
const GROUPS: usize = 9;
/// Code of 0 in the signed map.
const MIDDLE: u8 = 127;

/// A map from codes to numbers of -1 to 1, and back. A number's place is its index among those of its sign, 0 the first.
#[derive(Clone, Debug)]
pub struct Map<A> {
    signed: bool,
    numbers: [A; 256],
    /// Midway from a group's last number to the next one's first.
    edges: [A; GROUPS - 1],
    /// Place, in the unsigned map code, = inverse x + offset, before it is rounded.
    inverse: [A; GROUPS],
    offset: [A; GROUPS],
    /// The most that it may be.
    last: [u32; GROUPS],
    /// number = step place + start.
    step: [A; GROUPS],
    start: [A; GROUPS],
}

/// Places of a group, or for 0 and 1 the place where they stand, and its first number and step in f64.
struct Group {
    places: [u32; 2],
    first: f64,
    step: f64,
}

impl Group {
    fn of(signed: bool, n: usize) -> Self {
        let size = |n: usize| if signed { (1 << n) >> 1 } else { 1u32 << n };
        if n == 0 || n == GROUPS - 1 {
            return Self { places: [size(n); 2], first: if n == 0 { 0.0 } else { 1.0 }, step: 0.0 };
        }
        let decade = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0][n - 1];
        let step = 0.9 * decade / f64::from(size(n));
        Self { places: [size(n), 2 * size(n) - 1], first: 0.1 * decade + 0.5 * step, step }
    }

    fn last(&self) -> f64 {
        self.first + self.step * f64::from(self.places[1] - self.places[0])
    }
}

impl<A: Float> Map<A> {
    /// For numbers of both signs.
    pub fn signed() -> Self {
        Self::new(true)
    }

    /// For numbers that are not below 0.
    pub fn unsigned() -> Self {
        Self::new(false)
    }

    fn new(signed: bool) -> Self {
        let groups: [Group; GROUPS] = std::array::from_fn(|n| Group::of(signed, n));
        let inverse = |g: &Group| if g.step == 0.0 { 0.0 } else { 1.0 / g.step };
        let from = u32::from(!signed);
        let offset = |g: &Group| f64::from(g.places[0] - from) - g.first * inverse(g);
        let mut map = Self {
            signed,
            numbers: [A::ZERO; 256],
            edges: std::array::from_fn(|n| A::from_f64(0.5 * (groups[n].last() + groups[n + 1].first))),
            inverse: groups.each_ref().map(|g| A::from_f64(inverse(g))),
            offset: groups.each_ref().map(|g| A::from_f64(offset(g))),
            last: groups.each_ref().map(|g| g.places[1] - from),
            step: groups.each_ref().map(|g| A::from_f64(g.step)),
            start: groups.each_ref().map(|g| A::from_f64(g.first - g.step * f64::from(g.places[0]))),
        };
        for (n, group) in groups.iter().enumerate() {
            for place in group.places[0]..=group.places[1] {
                let number = map.step[n].fma(A::from_f64(f64::from(place)), map.start[n]);
                map.numbers[usize::from(map.code_at(place - from, false))] = number;
                if signed && (1..128).contains(&place) {
                    map.numbers[usize::from(map.code_at(place, true))] = -number;
                }
            }
        }
        map
    }

    /// The number of a code.
    pub fn number(&self, code: u8) -> A {
        self.numbers[usize::from(code)]
    }

    /// Of a place, in the unsigned map counted from 0.
    fn code_at(&self, place: u32, negative: bool) -> u8 {
        match (self.signed, negative) {
            (false, _) => place as u8,
            (true, false) => (u32::from(MIDDLE) + place) as u8,
            (true, true) => MIDDLE - place.min(u32::from(MIDDLE)) as u8,
        }
    }

    /// The code of the number nearest to `x`, which is not above 1. NaN has that of 0.
    pub fn code(&self, x: A) -> u8 {
        let magnitude = x.abs();
        let group = self.edges.iter().filter(|edge| magnitude >= **edge).count();
        let place = self.inverse[group].fma(magnitude, self.offset[group]).to_f64().round_ties_even();
        let place = if magnitude.is_nan() { 0 } else { (place as u32).min(self.last[group]) };
        self.code_at(place, x < A::ZERO)
    }

    /// The elements of a block.
    pub fn open(&self, codes: &[u8], scale: A, out: &mut [A]) {
        for (out, code) in out.iter_mut().zip(codes) {
            *out = self.number(*code) * scale;
        }
    }

    /// The codes of a block's elements, and its scale, which is their largest magnitude; 0 for a block without a normal f32, and
    /// not finite where an element is not. In the unsigned map what is above 0 stays above 0: a second moment that vanished
    /// would make its element's next step many times too long.
    #[must_use]
    pub fn close(&self, values: &[A], codes: &mut [u8]) -> A {
        let largest = values.iter().fold(A::ZERO, |most, x| most.max(x.abs()));
        let normal = largest.is_nan() || largest >= A::from_f64(f64::from(f32::MIN_POSITIVE));
        let scale = if normal { largest } else { A::ZERO };
        let inverse = if normal { A::ONE / scale } else { A::ZERO };
        for (code, x) in codes.iter_mut().zip(values) {
            *code = self.code(*x * inverse).max(u8::from(!self.signed && *x > A::ZERO));
        }
        scale
    }
}

/// Words of a map as kernels read it.
pub(super) const WORDS: usize = 120;
/// Binades in which kernels look for an edge: those from 2^-31 on, and 1's.
const BINADES: i32 = 32;

impl Map<f32> {
    /// `Map` in `kernels/adamw.cu`.
    pub(super) fn words(&self) -> [u32; WORDS] {
        let places = (0..GROUPS).flat_map(|n| {
            // Kernels count places in floats, and codes in the lower bits of 2^23 and more.
            let last = if self.signed {
                (self.last[n] as f32).to_bits()
            } else {
                8_388_608f32.to_bits() + self.last[n]
            };
            [self.inverse[n].to_bits(), self.offset[n].to_bits(), last, 0]
        });
        let numbers = (0..GROUPS).flat_map(|n| [self.step[n].to_bits(), self.start[n].to_bits()]);
        let edges = (1 - BINADES..=0).flat_map(|binade| {
            let below = self.edges.iter().filter(|edge| **edge <= 2f32.powi(binade)).count();
            let edge = self.edges.get(below).copied().unwrap_or(f32::INFINITY);
            [edge.to_bits(), below as u32]
        });
        let mut words = [0; WORDS];
        words.iter_mut().zip(places.chain(numbers).chain(edges)).for_each(|(word, value)| *word = value);
        words
    }
}
