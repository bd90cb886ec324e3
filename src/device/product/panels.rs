use std::ops::Range;

/// Neighbouring lines (rows of a, columns of b) cut into panels as even as they can be, each a whole number of units.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    lines: usize,
    unit: usize,
    pub(super) count: usize,
}

/// One panel: its lines, and the room each step of k takes.
pub(super) struct Panel {
    pub(super) lines: Range<usize>,
    pub(super) width: usize,
}

impl Panels {
    /// Panels of at most `most` units.
    pub(super) fn new(lines: usize, unit: usize, most: usize) -> Self {
        Self { lines, unit, count: lines.div_ceil(unit).div_ceil(most) }
    }

    /// The panels, ascending. Each but the last is full.
    pub(super) fn iter(self) -> impl Iterator<Item = Panel> {
        let units = self.lines.div_ceil(self.unit);
        (0..self.count).map(move |i| {
            let (start, end) = (units * i / self.count * self.unit, units * (i + 1) / self.count * self.unit);
            Panel { lines: start..end.min(self.lines), width: end - start }
        })
    }

    /// Room that a step of k takes in all panels.
    pub(super) fn room(self) -> usize {
        self.lines.next_multiple_of(self.unit)
    }
}
