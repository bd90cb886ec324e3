use patarm::report::{StatisticsError, bootstrap_mean, paired_bootstrap, quantile, wilson};
use proptest::prelude::*;

/// Newcombe, Statistics in Medicine 17 (1998), table I, method 3: the Wilson score interval.
#[test]
fn wilson_interval_equals_the_published_table() {
    let published = [
        (81.0, 263, 0.2553, 0.3662),
        (15.0, 148, 0.0624, 0.1605),
        (0.0, 20, 0.0, 0.1611),
        (1.0, 29, 0.0061, 0.1718),
    ];
    for (hits, n, low, high) in published {
        let found = wilson(hits, n).unwrap();
        assert!((found.low - low).abs() <= 5e-5, "{hits}/{n}: low {} against {low}", found.low);
        assert!((found.high - high).abs() <= 5e-5, "{hits}/{n}: high {} against {high}", found.high);
    }
}

#[test]
fn no_trials_or_too_many_successes_are_errors_not_numbers() {
    assert_eq!(wilson(0.0, 0), Err(StatisticsError::Empty));
    assert!(matches!(wilson(3.5, 3), Err(StatisticsError::NotAShare { .. })));
    assert!(matches!(wilson(f64::NAN, 3), Err(StatisticsError::NotAShare { .. })));
    assert!(matches!(wilson(-0.5, 3), Err(StatisticsError::NotAShare { .. })));
}

/// Of n values +1 and -1 in equal number, the bootstrap mean has variance 1/n: the interval is +-1.96/sqrt(n).
#[test]
fn bootstrap_interval_has_the_width_theory_gives() {
    let values: Vec<f64> = (0..400).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let found = bootstrap_mean(&values, 4000, 7).unwrap();
    let half = 1.96 / 20.0;
    assert_eq!(found.value, 0.0);
    assert!((found.high - half).abs() < 0.008 && (found.low + half).abs() < 0.008, "{found:?}");
}

#[test]
fn pairing_removes_what_both_sides_share() {
    let before: Vec<f64> = (0..50).map(|i| f64::from(i) * 8.0).collect();
    let after: Vec<f64> = before.iter().map(|b| b + 0.25).collect();
    let found = paired_bootstrap(&before, &after, 200, 1).unwrap();
    assert_eq!((found.value, found.low, found.high, found.n), (0.25, 0.25, 0.25, 50));
}

#[test]
fn bootstrap_repeats_for_a_seed_and_differs_between_seeds() {
    let values: Vec<f64> = (0..31).map(|i| f64::from(i * i % 17)).collect();
    assert_eq!(bootstrap_mean(&values, 300, 3), bootstrap_mean(&values, 300, 3));
    assert_ne!(bootstrap_mean(&values, 300, 3), bootstrap_mean(&values, 300, 4));
}

#[test]
fn bootstrap_refuses_unpaired_empty_and_non_finite_values() {
    assert_eq!(paired_bootstrap(&[1.0], &[], 9, 1), Err(StatisticsError::Unpaired { before: 1, after: 0 }));
    assert_eq!(bootstrap_mean(&[], 9, 1), Err(StatisticsError::Empty));
    assert_eq!(bootstrap_mean(&[1.0, f64::NAN], 9, 1), Err(StatisticsError::NotFinite { index: 1 }));
}

#[test]
fn quantile_is_linear_between_neighbours() {
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0);
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
    assert_eq!(quantile(&[5.0], 0.025), 5.0);
}

proptest! {
    #[test]
    fn wilson_interval_holds_its_share_and_stays_within_zero_and_one(halves in 0u64..=4000, extra in 0u64..2000) {
        let trials = halves.div_ceil(2) + extra + 1;
        let found = wilson(halves as f64 / 2.0, trials).unwrap();
        prop_assert!(0.0 <= found.low && found.low <= found.value + 1e-15);
        prop_assert!(found.value <= found.high + 1e-15 && found.high <= 1.0);
        prop_assert!(found.low < found.high);
    }
}
