//! Where scores landed: mirrored histograms, and their difference over the run.

use super::scale::Scale;
use super::svg::Svg;
use crate::report::run::{ScoreHistory, ScoreSnapshot};
use crate::report::unit::Unit;

const WIDTH: f64 = 500.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = WIDTH - 12.0;

/// Shares of one side, one a bin; all zero where nothing was counted.
fn shares(counts: &[u64]) -> Vec<f64> {
    let all = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|&count| count as f64 / all).collect()
}

fn bin_name(edges: &[f64], bin: usize) -> String {
    format!("score {} to {}", Unit::Number.show(edges[bin]), Unit::Number.show(edges[bin + 1]))
}

fn score_marks(svg: &mut Svg, edges: &[f64], at: impl Fn(f64) -> (f64, f64)) {
    let span = (edges[0], edges[edges.len() - 1]);
    let (marks, step) = Scale::new(span, (0.0, 1.0)).marks(12);
    for mark in marks {
        svg.text("mark middle", at((mark - span.0) / (span.1 - span.0)), &Unit::Number.mark(mark, step));
    }
}

/// Chosen responses above the line, rejected ones below it: a judge that knows nothing is symmetric. `highest` is the
/// share at the picture's edge, one for both pictures.
pub(super) fn histogram(edges: &[f64], snapshot: &ScoreSnapshot, highest: f64) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT, "scores of chosen and rejected responses");
    let (top, bottom) = (14.0, HEIGHT - 26.0);
    let y = Scale::new((-highest, highest), (bottom, top));
    let (marks, step) = y.marks(4);
    for mark in marks {
        svg.line("grid", (LEFT, y.at(mark)), (RIGHT, y.at(mark)));
        svg.text("mark end", (LEFT - 6.0, y.at(mark) + 4.0), &Unit::Share.mark(mark.abs(), step));
    }
    let bins = edges.len() - 1;
    let wide = (RIGHT - LEFT) / bins as f64;
    let (chosen, rejected) = (shares(&snapshot.chosen), shares(&snapshot.rejected));
    for bin in 0..bins {
        let left = LEFT + bin as f64 * wide + 1.0;
        for (side, share, class) in [(1.0, chosen[bin], "chosen"), (-1.0, rejected[bin], "rejected")] {
            let (from, to) = (y.at(0.0), y.at(side * share));
            let title = format!("{}: {} of {class}", bin_name(edges, bin), Unit::Share.show(share));
            let size = ((wide - 2.0).max(1.0), (to - from).abs());
            svg.titled(&title, |svg| svg.rect(&format!("bar {class}"), (left, from.min(to)), size, 1.0));
        }
    }
    svg.line("axis", (LEFT, y.at(0.0)), (RIGHT, y.at(0.0)));
    score_marks(&mut svg, edges, |share| (LEFT + share * (RIGHT - LEFT), bottom + 18.0));
    svg.finish()
}

/// The greatest share in any bin of these snapshots, with some air.
pub(super) fn highest<'a>(snapshots: impl IntoIterator<Item = &'a ScoreSnapshot>) -> f64 {
    let all = snapshots.into_iter().flat_map(|s| shares(&s.chosen).into_iter().chain(shares(&s.rejected)));
    (1.08 * all.fold(0.0, f64::max)).max(0.05)
}

/// Steps to the right, scores upwards; the colour of a cell says which side lands there more often, and by how much.
pub(super) fn heat_map(history: &ScoreHistory) -> String {
    let (width, height, left) = (1040.0, 270.0, 46.0);
    let (top, bottom, right) = (8.0, height - 28.0, width - 8.0);
    let mut svg = Svg::new(width, height, "difference of the score distributions over the run");
    let bins = history.edges.len() - 1;
    let tall = (bottom - top) / bins as f64;
    let wide = (right - left) / history.snapshots.len() as f64;
    let strongest = highest(&history.snapshots);
    for (column, snapshot) in history.snapshots.iter().enumerate() {
        let (chosen, rejected) = (shares(&snapshot.chosen), shares(&snapshot.rejected));
        for bin in 0..bins {
            let more = chosen[bin] - rejected[bin];
            let class = if more >= 0.0 { "chosen" } else { "rejected" };
            let at = (left + column as f64 * wide, bottom - (bin + 1) as f64 * tall);
            let title = format!(
                "step {}, {}: {} of chosen, {} of rejected",
                snapshot.step,
                bin_name(&history.edges, bin),
                Unit::Share.show(chosen[bin]),
                Unit::Share.show(rejected[bin])
            );
            // The root lifts what is faint: a cell of a hundredth of the strongest still shows a tenth of its colour.
            let opacity = (more.abs() / strongest).sqrt().min(1.0);
            svg.titled(&title, |svg| {
                svg.rect("cell", at, (wide + 0.2, tall + 0.2), 1.0);
                svg.rect(&format!("bar {class}"), at, (wide + 0.2, tall + 0.2), opacity);
            });
        }
    }
    let every = history.snapshots.len().div_ceil(12).max(1);
    for (column, snapshot) in history.snapshots.iter().enumerate().step_by(every) {
        let at = (left + (column as f64 + 0.5) * wide, bottom + 18.0);
        svg.text("mark middle", at, &Unit::Count.show(snapshot.step as f64));
    }
    score_marks(&mut svg, &history.edges, |share| (left - 14.0, bottom - share * (bottom - top) + 4.0));
    svg.finish()
}
