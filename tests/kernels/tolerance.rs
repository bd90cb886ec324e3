//! How near is near enough: derived from the precisions and from the plain body, never chosen.

use patarm::bench::fit;
use patarm::tensor::DType;

pub(crate) use patarm::bench::Exact;

/// The first element of `got` that is further from exact than twice the plain body's worst, in words.
pub(crate) fn breach(got: &[f64], plain: &[f64], exact: &Exact, stored: DType) -> Option<String> {
    fit(got, plain, exact, stored).err().map(|breach| breach.to_string())
}

/// Panics with the operator's and the element's name where [`breach`] finds one.
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
    assert!(fit(&got, &got, &exact, DType::F32).is_ok());
}

#[test]
fn a_nan_is_refused_and_named() {
    let (plain, exact) = row();
    let mut got = plain.clone();
    got[17] = f64::NAN;
    let found = fit(&got, &plain, &exact, DType::F32);
    assert!(found.is_err_and(|b| b.to_string().starts_with("element 17:")));
    assert!(fit(&plain, &got, &exact, DType::F32).is_err());
}

#[test]
fn one_wrong_element_and_a_wrong_tail_are_refused() {
    let (plain, exact) = row();
    for (at, factor) in [(5, 1.0 + 1e-6), (36, 0.0), (0, -1.0), (20, f64::INFINITY)] {
        let mut got = plain.clone();
        got[at] *= factor;
        let found = fit(&got, &plain, &exact, DType::F32);
        assert!(found.is_err_and(|b| b.to_string().starts_with(&format!("element {at}:"))), "{at}");
    }
    assert!(fit(&plain[..36], &plain, &exact, DType::F32).is_err());
}

#[test]
fn a_coarser_dtype_allows_its_own_rounding_only() {
    let (plain, exact) = row();
    let nudged = |relative: f64| plain.iter().map(|x| x * (1.0 + relative)).collect::<Vec<_>>();
    assert!(fit(&nudged(2f64.powi(-9)), &plain, &exact, DType::BF16).is_ok());
    assert!(fit(&nudged(2f64.powi(-6)), &plain, &exact, DType::BF16).is_err());
    assert!(fit(&nudged(2f64.powi(-9)), &plain, &exact, DType::F32).is_err());
}
