//! e to the power of x in f32: branch-free, so that the compiler vectorises it with the same bits in every lane.

/// Below this the result is less than the smallest normal number: 0.
const LOWEST: f32 = -87.336_54;
/// Above this the result is infinite.
const HIGHEST: f32 = 88.722_84;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts (Cody and Waite), so that `x - n ln 2` is exact to the last bits.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting this rounds to an integer.
const ROUND: f32 = 12_582_912.0;

/// e^x within 1.5 units in the last place; 0 below [`LOWEST`], infinity above [`HIGHEST`], NaN for NaN.
#[inline(always)]
pub(super) fn exp_f32(x: f32) -> f32 {
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > HIGHEST { HIGHEST } else { clamped };
    let shifted = clamped.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.987_569_1e-4_f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1] {
        p = p.mul_add(r, c);
    }
    let y = p.mul_add(r * r, r) + 1.0;
    // Two factors of a power of two, so that n = 128 does not overflow before its time.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) as u32) << 23);
    let y = y * power(half) * power(n.wrapping_sub(half));
    let y = if x < LOWEST { 0.0 } else { y };
    let y = if x > HIGHEST { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let worst = (-870_000..880_000)
            .map(|i| {
                let x = i as f32 * 1e-4;
                let exact = f64::from(x).exp();
                let ulp = f64::from(f32::EPSILON) * 2f64.powi(exact.log2().floor() as i32);
                (f64::from(exp_f32(x)) - exact).abs() / ulp
            })
            .fold(0.0, f64::max);
        assert!(worst < 1.5, "{worst} units");
    }

    #[test]
    fn exp_keeps_its_edges() {
        assert_eq!(exp_f32(0.0).to_bits(), 1.0f32.to_bits());
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_f32(-1e30), 0.0);
        assert_eq!(exp_f32(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp_f32(100.0), f32::INFINITY);
        assert!(exp_f32(88.7).is_finite() && exp_f32(f32::NAN).is_nan());
    }
}
