use std::collections::{BTreeMap, HashMap};

use super::words::pieces;
use crate::preference::PreferencePair;

/// Cost of one misjudged pair against `|w|^2 / 2`; the best on a fifth of the training pairs is taken.
const COSTS: [f64; 4] = [0.001, 0.01, 0.1, 1.0];
/// Passes over the pairs after which an unfinished fit is taken as it is.
const PASSES: usize = 200;

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
    pub(super) fn fit(pairs: &[PreferencePair]) -> Self {
        let mut features = HashMap::new();
        let differences: Vec<_> = pairs.iter().map(|pair| difference(pair, &mut features)).collect();
        let fifth = |keep: bool| {
            let chosen = differences.iter().enumerate().filter(move |(row, _)| (row % 5 == 4) == keep);
            chosen.map(|(_, row)| row).collect::<Vec<_>>()
        };
        let (fitting, checking) = (fifth(false), fifth(true));
        let mut best = (COSTS[0], f64::NEG_INFINITY);
        for cost in COSTS {
            let weights = minimise(&fitting, features.len(), cost);
            let right = checking.iter().map(|row| credit(dot(&weights, row))).sum();
            if right > best.1 {
                best = (cost, right);
            }
        }
        let weights = minimise(&differences.iter().collect::<Vec<_>>(), features.len(), best.0);
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
/// 2011): `w = sum_i a_i d_i`, and at the optimum `a_i = cost * sigmoid(-w . d_i)`. Rows are visited in their order.
fn minimise(rows: &[&Difference], features: usize, cost: f64) -> Vec<f64> {
    let mut weights = vec![0.0; features];
    let mut dual = vec![0.0; rows.len()];
    let norms: Vec<f64> = rows.iter().map(|row| row.iter().map(|(_, count)| count * count).sum()).collect();
    for _ in 0..PASSES {
        let mut moved = 0.0_f64;
        for (i, row) in rows.iter().enumerate() {
            let fresh = coordinate(dot(&weights, row), norms[i], dual[i], cost);
            let step = fresh - dual[i];
            row.iter().for_each(|(feature, count)| weights[*feature] += step * count);
            dual[i] = fresh;
            moved = moved.max(step.abs());
        }
        if moved < 1e-7 * cost {
            break;
        }
    }
    weights
}

/// The best value of one dual coordinate, the others fixed. With `a = cost * sigmoid(t)` it is the root of the
/// increasing function `margin + norm * (a - old) + t`, found by Newton's method inside a bracket.
fn coordinate(margin: f64, norm: f64, old: f64, cost: f64) -> f64 {
    let base = margin - norm * old;
    let (mut low, mut high) = (-base - norm * cost, -base);
    let mut t = 0.5 * (low + high);
    for _ in 0..60 {
        let share = 1.0 / (1.0 + libm::exp(-t));
        let value = base + norm * cost * share + t;
        if value > 0.0 {
            high = t;
        } else {
            low = t;
        }
        let newton = t - value / (1.0 + norm * cost * share * (1.0 - share));
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - t).abs() <= 1e-12 * (1.0 + t.abs()) {
            break;
        }
        t = next;
    }
    cost / (1.0 + libm::exp(-t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitted_weights_make_the_gradient_of_the_loss_vanish() {
        let rows: Vec<Difference> = (0..40)
            .map(|i| (0..7).map(|f| (f, f64::from((i * 31 + f as i32 * i * i) % 5 - 1))).collect())
            .collect();
        let rows: Vec<_> = rows.iter().collect();
        for cost in COSTS {
            let weights = minimise(&rows, 7, cost);
            let mut gradient = weights.clone();
            for row in &rows {
                let pull = cost / (1.0 + dot(&weights, row).exp());
                row.iter().for_each(|(feature, count)| gradient[*feature] -= pull * count);
            }
            assert!(gradient.iter().all(|g| g.abs() < 1e-4 * cost), "cost {cost}: {gradient:?}");
        }
    }
}
