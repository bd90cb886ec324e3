use super::codes::{BLOCK, Map};
use super::{AdamW, Factors, Param, Rounding};
use crate::device::{Float, Host};
use crate::ops::philox::Key;
use crate::tensor::{DType, Element};

/// Elements that one thread takes at a time: whole blocks of codes and of random numbers.
const CHUNK: usize = 1 << 14;
/// Elements that share a block of random numbers: 16 bits each.
const DRAWN: usize = 8;

/// A chunk of a parameter's elements, the first of which has this index.
struct Part<'a, T: Element> {
    first: usize,
    w: &'a mut [T],
    g: &'a [T::Acc],
    moments: Moments<'a, T::Acc>,
    master: Option<&'a mut [T::Acc]>,
}

/// Both moments of a chunk.
enum Moments<'a, A> {
    Wide([&'a mut [A]; 2]),
    /// Codes, and a scale for each block of them.
    Codes([(&'a mut [u8], &'a mut [A]); 2]),
}

/// What is the same for all elements.
struct How<A> {
    factors: Factors<A>,
    maps: [Map<A>; 2],
    rounding: Rounding,
}

pub(super) fn body<T: Element>(host: &Host, param: Param<'_>, settings: &AdamW) {
    let how = How::<T::Acc> {
        factors: Factors::of(settings),
        maps: [Map::signed(), Map::unsigned()],
        rounding: settings.rounding,
    };
    host.run(parts::<T>(param), |part| part.update(&how));
}

fn parts<T: Element>(param: Param<'_>) -> Vec<Part<'_, T>> {
    let Param { w, g, m, v, scales, master } = param;
    let moments: Vec<Moments<'_, T::Acc>> = match scales {
        None => {
            let [m, v] = [m, v].map(|moment| moment.host_mut().chunks_mut(CHUNK));
            m.zip(v).map(|(m, v)| Moments::Wide([m, v])).collect()
        }
        Some([m_scales, v_scales]) => {
            let [m, v] = [(m, m_scales), (v, v_scales)].map(|(codes, scales)| {
                codes.codes_mut().chunks_mut(CHUNK).zip(scales.host_mut().chunks_mut(CHUNK / BLOCK))
            });
            m.zip(v).map(|(m, v)| Moments::Codes([m, v])).collect()
        }
    };
    let mut masters = master.map(|master| master.host_mut().chunks_mut(CHUNK));
    let tensors = w.host_mut().chunks_mut(CHUNK).zip(g.host().chunks(CHUNK)).zip(moments);
    let part = |(chunk, ((w, g), moments))| {
        let master = masters.as_mut().and_then(Iterator::next);
        Part { first: chunk * CHUNK, w, g, moments, master }
    };
    tensors.enumerate().map(part).collect()
}

impl<T: Element> Part<'_, T> {
    /// Block by block: exact weights, moments, then what is stored of them.
    fn update(mut self, how: &How<T::Acc>) {
        let mut room = [T::Acc::ZERO; BLOCK];
        for (i, (w, g)) in self.w.chunks_mut(BLOCK).zip(self.g.chunks(BLOCK)).enumerate() {
            let at = i * BLOCK..i * BLOCK + w.len();
            let exact = &mut room[..w.len()];
            match &self.master {
                Some(master) => exact.copy_from_slice(&master[at.clone()]),
                None => exact.iter_mut().zip(w.iter()).for_each(|(exact, w)| *exact = w.load()),
            }
            self.moments.update(how, i, exact, g);
            match (&mut self.master, how.rounding) {
                (None, Rounding::Stochastic(key)) if T::DTYPE == DType::BF16 => {
                    round_stochastically(w, exact, self.first + at.start, key);
                }
                (master, _) => {
                    w.iter_mut().zip(exact.iter()).for_each(|(w, exact)| *w = T::store(*exact));
                    if let Some(master) = master {
                        master[at].copy_from_slice(exact);
                    }
                }
            }
        }
    }
}

impl<A: Float> Moments<'_, A> {
    /// The update of block `i`.
    fn update(&mut self, how: &How<A>, i: usize, w: &mut [A], g: &[A]) {
        match self {
            Self::Wide(moments) => {
                let [m, v] = moments.each_mut().map(|moment| &mut moment[i * BLOCK..][..g.len()]);
                how.factors.update_all(w, g, m, v);
            }
            Self::Codes(moments) => {
                let mut room = [[A::ZERO; BLOCK]; 2];
                let [m, v] = room.each_mut().map(|room| &mut room[..g.len()]);
                for ((map, (codes, scales)), out) in how.maps.iter().zip(moments.iter()).zip([&mut *m, v]) {
                    map.open(&codes[i * BLOCK..], scales[i], out);
                }
                how.factors.update_all(w, g, m, v);
                for ((map, (codes, scales)), out) in how.maps.iter().zip(moments).zip([m, v]) {
                    scales[i] = map.close(out, &mut codes[i * BLOCK..]);
                }
            }
        }
    }
}

impl<A: Float> Factors<A> {
    fn update_all(&self, w: &mut [A], g: &[A], m: &mut [A], v: &mut [A]) {
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            *w = self.update(*w, *g, m, v);
        }
    }
}

/// `x` up or down to a bf16, as 16 random bits say. What is not finite stays.
fn rounded_by<A: Float>(x: A, random: u32) -> A {
    let wide = x.to_f64() as f32;
    let rounded = f32::from_bits(wide.to_bits().wrapping_add(random) & 0xffff_0000);
    if wide.is_finite() { A::from_f64(f64::from(rounded)) } else { x }
}

/// Rounds `weights`, whose first has this index within its tensor: a multiple of [`DRAWN`].
fn round_stochastically<T: Element>(weights: &mut [T], exact: &[T::Acc], first: usize, key: Key) {
    for (i, (weights, exact)) in weights.chunks_mut(DRAWN).zip(exact.chunks(DRAWN)).enumerate() {
        let block = first / DRAWN + i;
        let words = key.block((block >> 32) as u32, block as u32);
        for (k, (w, x)) in weights.iter_mut().zip(exact).enumerate() {
            *w = T::store(rounded_by(*x, words[k / 2] >> (k % 2 * 16) & 0xffff));
        }
    }
}
