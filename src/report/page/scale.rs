//! From values to pixels, and where the marks of an axis stand.

/// A straight map from values to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    from: (f64, f64),
    to: (f64, f64),
}

impl Scale {
    /// Values `from` fall on pixels `to`. A range without width gets one, so that a flat line lies in the middle.
    pub(super) fn new(from: (f64, f64), to: (f64, f64)) -> Self {
        let (low, high) = from;
        let wide = if high > low {
            from
        } else {
            (low - 0.5 * low.abs().max(1e-9), high + 0.5 * high.abs().max(1e-9))
        };
        Self { from: wide, to }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value - self.from.0) / (self.from.1 - self.from.0);
        self.to.0 + share * (self.to.1 - self.to.0)
    }

    /// Round marks inside the range, about `count` of them, and their distance.
    pub(super) fn marks(&self, count: usize) -> (Vec<f64>, f64) {
        let step = round_step((self.from.1 - self.from.0) / count.max(1) as f64);
        let (first, last) = ((self.from.0 / step - 1e-9).ceil(), (self.from.1 / step + 1e-9).floor());
        let marks = (0..=((last - first).max(0.0) as usize)).map(|i| (first + i as f64) * step).collect();
        (marks, step)
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

/// Least and greatest finite value, if there is one.
pub(super) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|v| v.is_finite()).fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((low.min(v), high.max(v))),
    })
}

/// Moves positions apart until neighbours are `gap` from each other, keeping their order and staying above `bottom`.
pub(super) fn spread(positions: &[f64], gap: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..positions.len()).collect();
    order.sort_by(|&a, &b| positions[a].total_cmp(&positions[b]));
    let mut placed = positions.to_vec();
    for pair in order.windows(2) {
        placed[pair[1]] = placed[pair[1]].max(placed[pair[0]] + gap);
    }
    let mut limit = bottom;
    for &index in order.iter().rev() {
        placed[index] = placed[index].min(limit);
        limit = placed[index] - gap;
    }
    placed
}
