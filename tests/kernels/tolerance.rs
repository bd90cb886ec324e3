//! How near is near enough: derived from the precisions and from the plain body, never chosen.

use patarm::tensor::DType;

/// What an operator should have given: the f64 body's values, and for each the sum of its terms' magnitudes.
pub(crate) struct Exact {
    pub(crate) values: Vec<f64>,
    pub(crate) terms: Vec<f64>,
}

/// Largest relative error of rounding to a dtype.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 2f64.powi(-53),
        DType::F32 => 2f64.powi(-24),
        DType::BF16 => 2f64.powi(-8),
        DType::U32 | DType::U8 => panic!("ids and codes are not rounded"),
    }
}

/// Each error in units of what rounding the terms' sum and the result may cost.
fn ratios(got: &[f64], exact: &Exact, stored: DType) -> Vec<f64> {
    let summed = unit(stored.accumulator());
    let one = |((got, value), terms): ((&f64, &f64), &f64)| {
        let allowed = unit(stored) * value.abs() + summed * terms + f64::from(f32::MIN_POSITIVE);
        (got - value).abs() / allowed
    };
    got.iter().zip(&exact.values).zip(&exact.terms).map(one).collect()
}

/// The first element of `got` that is further from exact than twice the plain body's worst, in words.
pub(crate) fn breach(got: &[f64], plain: &[f64], exact: &Exact, stored: DType) -> Option<String> {
    let len = exact.values.len();
    if [got.len(), plain.len(), exact.terms.len()] != [len; 3] {
        return Some(format!(
            "{} values, {} plain, {} terms, {len} exact",
            got.len(),
            plain.len(),
            exact.terms.len()
        ));
    }
    if !exact.values.iter().chain(plain).chain(&exact.terms).all(|x| x.is_finite()) {
        return Some("what to compare with is not finite".into());
    }
    let bound = 2.0 * ratios(plain, exact, stored).into_iter().fold(1.0, f64::max);
    let ratios = ratios(got, exact, stored);
    let at = ratios.iter().position(|&ratio| {
        !matches!(ratio.partial_cmp(&bound), Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal))
    })?;
    Some(format!("element {at}: {} for {}, {} units, {bound} allowed", got[at], exact.values[at], ratios[at]))
}

/// Panics with the operator's and the element's name when [`breach`] finds one.
pub(crate) fn hold(what: &str, got: &[f64], plain: &[f64], exact: &Exact, stored: DType) {
    if let Some(breach) = breach(got, plain, exact, stored) {
        panic!("{what} in {stored:?}: {breach}");
    }
}

fn row() -> (Vec<f64>, Exact) {
    let values: Vec<f64> = (0..37).map(|i| f64::from(i) * 0.37 - 5.0).collect();
    let stored = values.iter().map(|x| f64::from(*x as f32)).collect();
    let terms = values.iter().map(|x| x.abs()).collect();
    (stored, Exact { values, terms })
}

#[test]
fn values_rounded_once_hold() {
    let (got, exact) = row();
    assert_eq!(breach(&got, &got, &exact, DType::F32), None);
}

#[test]
fn a_nan_is_refused_and_named() {
    let (plain, exact) = row();
    let mut got = plain.clone();
    got[17] = f64::NAN;
    assert!(breach(&got, &plain, &exact, DType::F32).is_some_and(|b| b.starts_with("element 17:")));
    assert!(breach(&plain, &got, &exact, DType::F32).is_some());
}

#[test]
fn one_wrong_element_and_a_wrong_tail_are_refused() {
    let (plain, exact) = row();
    for (at, factor) in [(5, 1.0 + 1e-6), (36, 0.0), (0, -1.0), (20, f64::INFINITY)] {
        let mut got = plain.clone();
        got[at] *= factor;
        let found = breach(&got, &plain, &exact, DType::F32);
        assert!(found.is_some_and(|b| b.starts_with(&format!("element {at}:"))), "{at}");
    }
    assert!(breach(&plain[..36], &plain, &exact, DType::F32).is_some());
}

#[test]
fn a_coarser_dtype_allows_its_own_rounding_only() {
    let (plain, exact) = row();
    let nudged = |relative: f64| plain.iter().map(|x| x * (1.0 + relative)).collect::<Vec<_>>();
    assert_eq!(breach(&nudged(2f64.powi(-9)), &plain, &exact, DType::BF16), None);
    assert!(breach(&nudged(2f64.powi(-6)), &plain, &exact, DType::BF16).is_some());
    assert!(breach(&nudged(2f64.powi(-9)), &plain, &exact, DType::F32).is_some());
}
