//! Values over steps: lines with bands, horizontal rules, phases, and the data the pointer reads.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::scale::{Scale, extent, spread};
use super::svg::{Svg, escape};
use crate::report::unit::Unit;

/// One value at one step, with its interval where it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) step: u64,
    pub(super) value: f64,
    pub(super) band: Option<(f64, f64)>,
}

/// One line. `colour` is a class of the style sheet.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: String,
    pub(super) points: Vec<Point>,
}

/// A horizontal line to compare with, named at its right end.
pub(super) struct Rule {
    pub(super) value: f64,
    pub(super) label: String,
    pub(super) class: &'static str,
}

/// Where a phase of the run begins.
pub(super) struct PhaseStart {
    pub(super) step: u64,
    pub(super) name: String,
}

/// A chart before it is drawn.
pub(super) struct LineChart<'a> {
    pub(super) label: &'a str,
    pub(super) size: (f64, f64),
    /// Room at the right for the names of rules, in pixels.
    pub(super) margin: f64,
    pub(super) unit: Unit,
    /// The values shown, or as far as the lines reach.
    pub(super) range: Option<(f64, f64)>,
    pub(super) lines: &'a [Line],
    pub(super) rules: &'a [Rule],
    pub(super) phases: &'a [PhaseStart],
}

const LEFT: f64 = 52.0;
const BOTTOM: f64 = 26.0;
/// More points than this are averaged in groups before they are drawn.
const MOST_POINTS: usize = 320;

impl LineChart<'_> {
    /// The picture, wrapped with what the pointer reads.
    pub(super) fn draw(&self) -> String {
        let (x, y) = self.scales();
        let readings = escape(&self.readings(&x, &y).to_string());
        format!("<div class=\"plot\" data-readings=\"{readings}\">{}</div>", self.picture())
    }

    /// The picture alone.
    pub(super) fn picture(&self) -> String {
        let (x, y) = self.scales();
        let mut svg = Svg::new(self.size.0, self.size.1, self.label);
        self.axes(&mut svg, &x, &y);
        self.draw_rules(&mut svg, &y);
        for (index, line) in self.lines.iter().enumerate() {
            svg.series(index, |svg| draw_line(svg, line, &x, &y, self.top()));
        }
        svg.finish()
    }

    /// Whether there is room for names and more marks.
    fn is_large(&self) -> bool {
        self.size.0 > 500.0
    }

    fn top(&self) -> f64 {
        if self.is_large() { 20.0 } else { 8.0 }
    }

    fn right(&self) -> f64 {
        self.size.0 - self.margin
    }

    fn bottom(&self) -> f64 {
        self.size.1 - BOTTOM
    }

    fn scales(&self) -> (Scale, Scale) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let steps = match extent(points().map(|p| p.step as f64)) {
            Some((first, last)) if first < last => (first, last),
            Some((only, _)) => (only - 1.0, only + 1.0),
            None => (0.0, 1.0),
        };
        let bands = points().filter_map(|p| p.band).flat_map(|(low, high)| [low, high]);
        let reached = extent(points().map(|p| p.value).chain(bands)).unwrap_or((0.0, 1.0));
        let air = 0.06 * (reached.1 - reached.0);
        let values = self.range.unwrap_or((reached.0 - air, reached.1 + air));
        (Scale::new(steps, (LEFT, self.right())), Scale::new(values, (self.bottom(), self.top())))
    }

    fn axes(&self, svg: &mut Svg, x: &Scale, y: &Scale) {
        let (marks, step) = y.marks(if self.is_large() { 6 } else { 5 });
        for mark in marks {
            svg.line("grid", (LEFT, y.at(mark)), (self.right(), y.at(mark)));
            svg.text("mark end", (LEFT - 8.0, y.at(mark) + 4.0), &self.unit.mark(mark, step));
        }
        let (marks, step) = x.marks(if self.is_large() { 10 } else { 4 });
        for mark in marks.into_iter().filter(|mark| *mark >= 0.0 && mark.fract() == 0.0) {
            svg.text("mark middle", (x.at(mark), self.bottom() + 18.0), &Unit::Count.mark(mark, step));
        }
        svg.line("axis", (LEFT, self.bottom()), (self.right(), self.bottom()));
        let (first, last) = (LEFT, self.right());
        let inside: Vec<&PhaseStart> =
            self.phases.iter().filter(|p| (first..last).contains(&x.at(p.step as f64))).collect();
        for phase in &inside {
            let at = x.at(phase.step as f64);
            svg.line("phase", (at, self.top()), (at, self.bottom()));
            if self.is_large() {
                svg.text("mark", (at + 5.0, self.top() - 6.0), &phase.name);
            }
        }
    }

    fn draw_rules(&self, svg: &mut Svg, y: &Scale) {
        let wanted: Vec<f64> = self.rules.iter().map(|rule| y.at(rule.value)).collect();
        let placed = spread(&wanted, 14.0, self.bottom() - 2.0);
        for ((rule, at), label) in self.rules.iter().zip(wanted).zip(placed) {
            let end = self.right();
            svg.line(&format!("rule {}", rule.class), (LEFT, at), (end, at));
            if !rule.label.is_empty() && self.margin > 60.0 {
                let lead = [Some((end, at)), Some((end + 8.0, label)), Some((end + 12.0, label))];
                svg.stroke(&format!("lead {}", rule.class), lead);
                svg.text(&format!("name {}", rule.class), (end + 16.0, label + 4.0), &rule.label);
            }
        }
    }

    /// `at`: one entry a step: pixel, title, then for each line its text and pixel, or null.
    fn readings(&self, x: &Scale, y: &Scale) -> Value {
        let mut at: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
        let empty = vec![Value::Null; self.lines.len()];
        for (index, line) in self.lines.iter().enumerate() {
            for point in thin(&line.points) {
                let mut text = self.unit.show(point.value);
                if let Some((low, high)) = point.band {
                    text = format!("{text} ({})", self.unit.show_interval(low, high));
                }
                let pixel = if point.value.is_finite() { tenth(y.at(point.value)) } else { Value::Null };
                at.entry(point.step).or_insert_with(|| empty.clone())[index] = json!([text, pixel]);
            }
        }
        let entry = |(step, lines): (u64, Vec<Value>)| json!([tenth(x.at(step as f64)), step, lines]);
        json!({
            "size": self.size, "top": self.top(), "bottom": self.bottom(),
            "names": self.lines.iter().map(|line| &line.name).collect::<Vec<_>>(),
            "colours": self.lines.iter().map(|line| &line.colour).collect::<Vec<_>>(),
            "at": at.into_iter().map(entry).collect::<Vec<_>>(),
        })
    }
}

fn tenth(pixel: f64) -> Value {
    json!((pixel * 10.0).round() / 10.0)
}

fn draw_line(svg: &mut Svg, line: &Line, x: &Scale, y: &Scale, top: f64) {
    let colour = &line.colour;
    let pixel = |point: &Point| point.value.is_finite().then(|| (x.at(point.step as f64), y.at(point.value)));
    let drawn = thin(&line.points);
    let banded: Vec<(f64, (f64, f64))> =
        drawn.iter().filter_map(|p| Some((x.at(p.step as f64), p.band?))).collect();
    let upper = banded.iter().map(|(at, band)| (*at, y.at(band.1)));
    let lower = banded.iter().rev().map(|(at, band)| (*at, y.at(band.0)));
    if !banded.is_empty() {
        svg.area(&format!("band {colour}"), upper.chain(lower));
    }
    if line.points.iter().any(|p| p.band.is_some()) || line.points.len() < 24 {
        svg.stroke(&format!("line {colour}"), drawn.iter().map(pixel));
        for at in drawn.iter().filter_map(pixel).filter(|_| drawn.len() <= 60) {
            svg.circle(&format!("dot {colour}"), at, 2.6);
        }
    } else {
        svg.stroke(&format!("raw {colour}"), drawn.iter().map(pixel));
        svg.stroke(&format!("line {colour}"), thin(&smooth(&line.points)).iter().map(pixel));
    }
    for point in drawn.iter().filter(|point| !point.value.is_finite()) {
        let at = x.at(point.step as f64);
        svg.line("broken", (at, top), (at, top + 10.0));
    }
}

/// At most `MOST_POINTS` points: groups of neighbours become their mean. A group with a value that is not finite
/// becomes that value: it must not vanish.
fn thin(points: &[Point]) -> Vec<Point> {
    let group = points.len().div_ceil(MOST_POINTS).max(1);
    if group == 1 {
        return points.to_vec();
    }
    let mean = |group: &[Point]| {
        let value = group.iter().map(|p| p.value).sum::<f64>() / group.len() as f64;
        Point { step: group[group.len() - 1].step, value, band: group[group.len() - 1].band }
    };
    points.chunks(group).map(mean).collect()
}

/// Each value averaged with its finite neighbours, a thirtieth of the line in all.
fn smooth(points: &[Point]) -> Vec<Point> {
    let reach = (points.len() / 60).max(1);
    let around = |index: usize| {
        let near = &points[index.saturating_sub(reach)..(index + reach + 1).min(points.len())];
        let finite: Vec<f64> = near.iter().map(|p| p.value).filter(|v| v.is_finite()).collect();
        let value = finite.iter().sum::<f64>() / finite.len() as f64;
        Point { value: if points[index].value.is_finite() { value } else { f64::NAN }, ..points[index] }
    };
    (0..points.len()).map(around).collect()
}
