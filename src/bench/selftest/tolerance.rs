//! How near is near enough: derived from the precisions and from the plain body, never chosen.

use crate::tensor::DType;

/// What an operator should have given: the f64 body's values, and for each the sum of its terms' magnitudes.
#[derive(Clone, Debug)]
pub struct Exact {
    /// By the f64 body.
    pub values: Vec<f64>,
    /// Sums of the magnitudes of what each is the sum of.
    pub terms: Vec<f64>,
}

/// How near results came. A unit is what rounding the terms' sum and the result may cost.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Fit {
    /// The largest error, units.
    pub worst: f64,
    /// Twice the plain body's largest, at least 2 units.
    pub allowed: f64,
}

/// Why results are not near enough.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Breach {
    /// An element is too far off, or no number.
    #[error("element {index}: {got} for {expected}, {units} units, {allowed} allowed")]
    Element {
        /// Which, counted in memory.
        index: usize,
        /// What came.
        got: f64,
        /// What the f64 body gives.
        expected: f64,
        /// How far off.
        units: f64,
        /// How far off it may be.
        allowed: f64,
    },
    /// Lists of different lengths.
    #[error("{got} values, {plain} plain, {terms} terms, {values} exact")]
    Lengths {
        /// Of the results.
        got: usize,
        /// Of the plain body's.
        plain: usize,
        /// Of the terms.
        terms: usize,
        /// Of the exact values.
        values: usize,
    },
    /// Nothing can be held against infinity.
    #[error("what to compare with is not finite")]
    NotFinite,
}

/// Largest relative error of rounding to a dtype.
pub(super) fn unit(dtype: DType) -> f64 {
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

/// Holds every element of `got` to twice the worst of `plain`, which is of the same precision.
///
/// # Errors
/// The first element that is further off, or what keeps the two from being compared.
pub fn fit(got: &[f64], plain: &[f64], exact: &Exact, stored: DType) -> Result<Fit, Breach> {
    let values = exact.values.len();
    if [got.len(), plain.len(), exact.terms.len()] != [values; 3] {
        let (got, plain, terms) = (got.len(), plain.len(), exact.terms.len());
        return Err(Breach::Lengths { got, plain, terms, values });
    }
    if !exact.values.iter().chain(plain).chain(&exact.terms).all(|x| x.is_finite()) {
        return Err(Breach::NotFinite);
    }
    let allowed = 2.0 * ratios(plain, exact, stored).into_iter().fold(1.0, f64::max);
    let ratios = ratios(got, exact, stored);
    // What is no number is not at most anything.
    match ratios
        .iter()
        .position(|&units| !matches!(units.partial_cmp(&allowed), Some(order) if order.is_le()))
    {
        None => Ok(Fit { worst: ratios.into_iter().fold(0.0, f64::max), allowed }),
        Some(index) => Err(Breach::Element {
            index,
            got: got[index],
            expected: exact.values[index],
            units: ratios[index],
            allowed,
        }),
    }
}
