use std::cmp::Ordering;

use super::Truncation;
use crate::device::Float;
use crate::ops::head::Softmax;

/// Ids that may be drawn, most likely first; at least one.
pub(super) fn kept<A: Float>(z: &[A], truncation: Truncation) -> Vec<u32> {
    let mut ids = match truncation.top_k {
        0 if truncation.top_p < 1.0 => return nucleus_of_all(z, truncation),
        0 => (0..z.len() as u32).collect(),
        k => largest(z, k as usize),
    };
    let max = z[ids[0] as usize];
    if truncation.top_p < 1.0 {
        let total = ids.iter().map(|&id| weight(z, id, max)).sum();
        ids.truncate(nucleus(z, &ids, (max, total), truncation.top_p).unwrap_or(ids.len()));
    }
    likely(z, ids, truncation.min_p)
}

/// The more likely first, the lower id among equals.
fn by_score<A: Float>(z: &[A]) -> impl Fn(&u32, &u32) -> Ordering + '_ {
    |a, b| {
        let descending = z[*b as usize].partial_cmp(&z[*a as usize]);
        descending.unwrap_or(Ordering::Equal).then(a.cmp(b))
    }
}

fn largest<A: Float>(z: &[A], k: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..z.len() as u32).collect();
    if k < ids.len() {
        ids.select_nth_unstable_by(k, by_score(z));
        ids.truncate(k);
    }
    ids.sort_unstable_by(by_score(z));
    ids
}

fn weight<A: Float>(z: &[A], id: u32, max: A) -> f64 {
    (z[id as usize] - max).exp().to_f64()
}

/// How many of the sorted ids reach `top_p` of `total`; `None` if all together do not.
fn nucleus<A: Float>(z: &[A], ids: &[u32], (max, total): (A, f64), top_p: f32) -> Option<usize> {
    let mut mass = 0.0;
    let enough = ids.iter().position(|&id| {
        mass += weight(z, id, max);
        mass >= f64::from(top_p) * total
    })?;
    Some(enough + 1)
}

/// `top_p` without `top_k`: only ids near the largest score are sorted, in a window that widens until it holds enough.
fn nucleus_of_all<A: Float>(z: &[A], truncation: Truncation) -> Vec<u32> {
    let softmax = Softmax::of(z);
    let total = (softmax.max, softmax.sum.to_f64());
    for width in [8.0, 16.0, f64::INFINITY] {
        let floor = softmax.max - A::from_f64(width);
        let mut ids: Vec<u32> = (0..z.len() as u32).filter(|&id| z[id as usize] >= floor).collect();
        ids.sort_unstable_by(by_score(z));
        if let Some(count) = nucleus(z, &ids, total, truncation.top_p) {
            ids.truncate(count);
            return likely(z, ids, truncation.min_p);
        }
    }
    likely(z, largest(z, z.len()), truncation.min_p)
}

/// Those at least `min_p` times as likely as the most likely one.
fn likely<A: Float>(z: &[A], mut ids: Vec<u32>, min_p: f32) -> Vec<u32> {
    if min_p > 0.0 {
        let max = ids.iter().fold(A::NEG_INFINITY, |m, &id| m.max(z[id as usize]));
        ids.retain(|&id| weight(z, id, max) >= f64::from(min_p));
    }
    if ids.is_empty() { vec![0] } else { ids }
}
