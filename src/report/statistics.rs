use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Two-sided 95 % point of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// A number with its 95 % interval and the count of observations behind it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The point estimate, in the unit of what was observed (a share lies in 0..=1).
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// How many independent observations it rests on.
    pub n: u64,
}

/// Why an estimate could not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StatisticsError {
    /// The two sides of a paired comparison do not have one entry for each pair.
    #[error(
        "a paired comparison needs one value a pair on both sides, got {before} before and {after} after"
    )]
    Unpaired {
        /// Values on the first side.
        before: usize,
        /// Values on the second side.
        after: usize,
    },
    /// There is nothing to estimate from.
    #[error("no observation: an estimate needs at least one")]
    Empty,
    /// A value is NaN or infinite.
    #[error("observation {index} is not a finite number")]
    NotFinite {
        /// Position of the first such value.
        index: usize,
    },
    /// More successes than trials, or a negative count.
    #[error("{successes} successes of {trials} trials is not a share")]
    NotAShare {
        /// Successes, ties counted half.
        successes: f64,
        /// Trials.
        trials: u64,
    },
}

/// Share `successes / trials` with its Wilson score interval (Wilson 1927, without continuity correction).
///
/// `successes` may carry halves: a tie counts half. A tie varies less than a win or a loss, so the interval is then
/// a little too wide, never too narrow.
///
/// # Errors
/// `Empty` without trials, `NotAShare` where `successes` is outside `0..=trials`.
pub fn wilson(successes: f64, trials: u64) -> Result<Estimate, StatisticsError> {
    if trials == 0 {
        return Err(StatisticsError::Empty);
    }
    let n = trials as f64;
    if !(0.0..=n).contains(&successes) {
        return Err(StatisticsError::NotAShare { successes, trials });
    }
    let share = successes / n;
    let z2 = Z95 * Z95;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let low = if successes == 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == n { 1.0 } else { (centre + half).min(1.0) };
    Ok(Estimate { value: share, low, high, n: trials })
}

/// Mean difference `after - before` over the same pairs, with the percentile interval of a paired bootstrap.
///
/// Each of the `resamples` draws as many pairs as there are, with replacement, from a generator seeded by `seed`: the
/// same arguments give the same interval on every machine.
///
/// # Errors
/// `Unpaired` where the lengths differ, `Empty` without pairs or resamples, `NotFinite` for a NaN or an infinity.
pub fn paired_bootstrap(
    before: &[f64],
    after: &[f64],
    resamples: u32,
    seed: u64,
) -> Result<Estimate, StatisticsError> {
    if before.len() != after.len() {
        return Err(StatisticsError::Unpaired { before: before.len(), after: after.len() });
    }
    let differences: Vec<f64> = before.iter().zip(after).map(|(b, a)| a - b).collect();
    bootstrap_mean(&differences, resamples, seed)
}

/// Mean of `values` with the percentile interval of a bootstrap over them.
///
/// # Errors
/// `Empty` without values or resamples, `NotFinite` for a NaN or an infinity.
pub fn bootstrap_mean(values: &[f64], resamples: u32, seed: u64) -> Result<Estimate, StatisticsError> {
    if values.is_empty() || resamples == 0 {
        return Err(StatisticsError::Empty);
    }
    if let Some(index) = values.iter().position(|v| !v.is_finite()) {
        return Err(StatisticsError::NotFinite { index });
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let n = values.len();
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..n).map(|_| values[below(&mut generator, n)]).sum::<f64>() / n as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    Ok(Estimate {
        value: values.iter().sum::<f64>() / n as f64,
        low: quantile(&means, 0.025),
        high: quantile(&means, 0.975),
        n: n as u64,
    })
}

/// The `q`-quantile of ascending, non-empty `sorted`, linear between neighbours (type 7 of Hyndman and Fan 1996).
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    assert!(!sorted.is_empty(), "a quantile needs at least one value");
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let left = position.floor() as usize;
    let right = (left + 1).min(sorted.len() - 1);
    sorted[left] + (position - left as f64) * (sorted[right] - sorted[left])
}

/// A number in `0..n`. The upper half of a 64-by-64 product is uneven by at most n / 2^64, far below any interval.
fn below(generator: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(generator.next_u64()) * n as u128) >> 64) as usize
}
