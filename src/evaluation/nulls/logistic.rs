use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::words::pieces;
use crate::preference::PreferencePair;

/// Cost of one misjudged pair against `|w|^2 / 2`; the best on a fifth of the training pairs is taken.
const COSTS: [f64; 4] = [0.001, 0.01, 0.1, 1.0];
/// Passes over the pairs after which an unfinished fit is taken as it is.
const PASSES: usize = 500;
/// A fit is finished when no dual coordinate moved by more than this share of the cost in a pass.
const UNMOVED: f64 = 1e-3;

/// Feature counts by feature index, chosen minus rejected.
type Difference = Vec<(usize, f64)>;

/// Logistic regression over the counts of a response's unigrams and bigrams.
///
/// `score(chosen) - score(rejected)` is the log-odds that `chosen` is preferred; there is no intercept, so exchanging
/// the two sides exchanges the verdict.
pub(super) struct NgramRegression {
    features: HashMap<String, usize>,
    weights: Vec<f64>,
}

impl NgramRegression {
    /// Fits to the pairs; the cost is chosen on every fifth of them (by order), then all of them are used.
    pub(super) fn fit(pairs: &[impl Borrow<PreferencePair>]) -> Self {
        let mut features = HashMap::new();
        let differences: Vec<_> = pairs.iter().map(|pair| difference(pair.borrow(), &mut features)).collect();
        let fifth = |keep: bool| {
            let chosen = differences.iter().enumerate().filter(move |(row, _)| (row % 5 == 4) == keep);
            chosen.map(|(_, row)| row).collect::<Vec<_>>()
        };
        let (fitting, checking) = (fifth(false), fifth(true));
        let mut best = (COSTS[0], f64::NEG_INFINITY);
        for cost in COSTS {
            let weights = minimise(&fitting, features.len(), cost, UNMOVED);
            let right = checking.iter().map(|row| credit(dot(&weights, row))).sum();
            if right > best.1 {
                best = (cost, right);
            }
        }
        let weights = minimise(&differences.iter().collect::<Vec<_>>(), features.len(), best.0, UNMOVED);
        Self { features, weights }
    }

    /// How much the words of `response` look like those of chosen responses, log-odds; unknown n-grams add nothing.
    pub(super) fn score(&self, response: &str) -> f64 {
        let known = ngrams(response).into_iter().filter_map(|ngram| self.features.get(&ngram));
        // Summed in the order of the features: equal bags of n-grams get equal scores, whatever the order of the text.
        let mut counts = BTreeMap::<usize, f64>::new();
        known.for_each(|feature| *counts.entry(*feature).or_default() += 1.0);
        counts.iter().map(|(feature, count)| self.weights[*feature] * count).sum()
    }
}

fn credit(margin: f64) -> f64 {
    if margin > 0.0 {
        1.0
    } else if margin == 0.0 {
        0.5
    } else {
        0.0
    }
}

fn ngrams(text: &str) -> Vec<String> {
    let pieces = pieces(text);
    let bigrams = pieces.windows(2).map(|pair| pair.join(" "));
    let bigrams: Vec<_> = bigrams.collect();
    pieces.into_iter().chain(bigrams).collect()
}

fn difference(pair: &PreferencePair, features: &mut HashMap<String, usize>) -> Difference {
    let mut counts = BTreeMap::<usize, f64>::new();
    for (text, sign) in [(&pair.chosen, 1.0), (&pair.rejected, -1.0)] {
        for ngram in ngrams(text) {
            let next = features.len();
            *counts.entry(*features.entry(ngram).or_insert(next)).or_default() += sign;
        }
    }
    counts.into_iter().filter(|(_, count)| *count != 0.0).collect()
}

fn dot(weights: &[f64], row: &Difference) -> f64 {
    row.iter().map(|(feature, count)| weights[*feature] * count).sum()
}

/// Minimises `|w|^2 / 2 + cost * sum_i log(1 + exp(-w . d_i))` by coordinate descent in the dual (Yu, Huang and Lin,
/// 2011): `w = sum_i a_i d_i`, and at the optimum `a_i = cost * sigmoid(-w . d_i)`. The order of the rows in each pass comes from
/// a generator with a fixed seed.
fn minimise(rows: &[&Difference], features: usize, cost: f64, unmoved: f64) -> Vec<f64> {
    let mut weights = vec![0.0; features];
    let mut dual = vec![0.0; rows.len()];
    let norms: Vec<f64> = rows.iter().map(|row| row.iter().map(|(_, count)| count * count).sum()).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut generator = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..PASSES {
        order.shuffle(&mut generator);
        let mut moved = 0.0_f64;
        for &i in &order {
            let fresh = coordinate(dot(&weights, rows[i]), norms[i], dual[i], cost);
            let step = fresh - dual[i];
            rows[i].iter().for_each(|(feature, count)| weights[*feature] += step * count);
            dual[i] = fresh;
            moved = moved.max(step.abs());
        }
        if moved < unmoved * cost {
            break;
        }
    }
    weights
}

/// The best value of one dual coordinate, the others fixed. With `a = cost * sigmoid(t)` it is the root of the
/// increasing function `margin + norm * (a - old) + t`: Newton's method inside a bracket, which is halved wherever a step
/// would leave it or is more than half the one before.
fn coordinate(margin: f64, norm: f64, old: f64, cost: f64) -> f64 {
    let base = margin - norm * old;
    let (mut low, mut high) = (-base - norm * cost, -base);
    let (mut t, mut last) = (0.5 * (low + high), high - low);
    for _ in 0..200 {
        let share = 1.0 / (1.0 + libm::exp(-t));
        let value = base + norm * cost * share + t;
        if value > 0.0 {
            high = t;
        } else {
            low = t;
        }
        let newton = t - value / (1.0 + norm * cost * share * (1.0 - share));
        let quick = newton > low && newton < high && (newton - t).abs() <= 0.5 * last;
        let next = if quick { newton } else { 0.5 * (low + high) };
        last = (next - t).abs();
        t = next;
        if last <= 1e-12 * (1.0 + t.abs()) {
            break;
        }
    }
    cost / (1.0 + libm::exp(-t))
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::Rng;

    use super::*;

    /// Counts from -3 to 3, and in every eighth row three times as large.
    fn rows() -> Vec<Difference> {
        let mut generator = ChaCha8Rng::seed_from_u64(5);
        let mut count =
            |i: i32| f64::from((generator.next_u32() % 7) as i32 - 3) * if i % 8 == 0 { 3.0 } else { 1.0 };
        (0..40).map(|i| (0..7).map(|feature| (feature, count(i))).collect()).collect()
    }

    #[test]
    fn fitted_weights_make_the_gradient_of_the_loss_vanish() {
        let rows = rows();
        let rows: Vec<_> = rows.iter().collect();
        for cost in COSTS {
            let weights = minimise(&rows, 7, cost, 1e-12);
            let mut gradient = weights.clone();
            let mut terms = 0.0_f64;
            for row in &rows {
                let pull = cost / (1.0 + dot(&weights, row).exp());
                for (feature, count) in *row {
                    gradient[*feature] -= pull * count;
                    terms += (pull * count).abs();
                }
            }
            assert!(gradient.iter().all(|g| g.abs() <= 1e-6 * terms), "cost {cost}: {gradient:?} of {terms}");
        }
    }

    #[test]
    fn coordinate_equals_plain_bisection_whatever_the_size_of_the_row() {
        for norm in [1e-3, 1.0, 50.0, 1e4, 1e7] {
            for margin in [-1e5, -30.0, -1.0, 0.0, 2.5, 1e3] {
                for (old, cost) in [(0.0, 1.0), (0.3, 1.0), (0.0, 0.001)] {
                    let (mut low, mut high) = (-1e9, 1e9);
                    for _ in 0..200 {
                        let t = 0.5 * (low + high);
                        let positive = margin + norm * (cost / (1.0 + f64::exp(-t)) - old) + t > 0.0;
                        *if positive { &mut high } else { &mut low } = t;
                    }
                    let (fresh, plain) = (coordinate(margin, norm, old, cost), cost / (1.0 + f64::exp(-low)));
                    assert!((fresh - plain).abs() <= 1e-9 * cost, "{norm} {margin} {old}: {fresh} {plain}");
                }
            }
        }
    }
}
