//! Gradients against central differences.

use super::tensors::numbers;

/// Step of a difference: near the cube root of f64's rounding error, where truncation and rounding meet.
const STEP: f64 = 1e-5;

/// Most elements of one input that are moved.
const MOVED: usize = 48;

/// Holds `gradient` against the change of `loss` when elements of `input` move. Both errors of a central difference are about
/// 1e-10 of the values in play, which are near 1; a wrong term is far above the bound.
pub(crate) fn hold(what: &str, input: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    assert_eq!(input.len(), gradient.len(), "{what}");
    let mut moved = input.to_vec();
    let stride = input.len().div_ceil(MOVED).max(1);
    for at in (0..input.len()).step_by(stride) {
        let mut at_step = |step: f64| {
            moved[at] = input[at] + step;
            let loss = loss(&moved);
            moved[at] = input[at];
            loss
        };
        let slope = (at_step(STEP) - at_step(-STEP)) / (2.0 * STEP);
        let error = (slope - gradient[at]).abs();
        assert!(error <= 2e-8 * (1.0 + slope.abs()), "{what}[{at}]: {} for a slope of {slope}", gradient[at]);
    }
}

/// Σ weights values.
pub(crate) fn weighted(values: &[f64], weights: &[f64]) -> f64 {
    values.iter().zip(weights).map(|(v, w)| v * w).sum()
}

#[test]
fn the_slope_of_a_cubic_holds_and_a_wrong_one_does_not() {
    let input = numbers(1, 7);
    let cubic = |x: &[f64]| x.iter().map(|x| x * x * x).sum();
    let slope: Vec<f64> = input.iter().map(|x| 3.0 * x * x).collect();
    hold("cubic", &input, &slope, cubic);
    let mut wrong = slope;
    wrong[6] += 1e-6;
    assert!(std::panic::catch_unwind(|| hold("cubic", &input, &wrong, cubic)).is_err());
}
