//! Validation accuracy over the run, overall and task by task, beside simple judges.

use minijinja::{context, value::Value};

use super::line_chart::{Line, LineChart, PhaseStart, Point, Rule};
use crate::report::run::{AccuracyCurve, NullJudge};
use crate::report::statistics::Estimate;
use crate::report::unit::Unit;

pub(super) fn line(curve: &AccuracyCurve, colour: &str) -> Line {
    let point = |p: &crate::report::run::AccuracyPoint| Point {
        step: p.step,
        value: p.accuracy.value,
        band: Some((p.accuracy.low, p.accuracy.high)),
    };
    Line { name: curve.name.clone(), colour: colour.into(), points: curve.points.iter().map(point).collect() }
}

/// One range for all accuracy pictures, in whole tenths: what looks equal is equal.
pub(super) fn range(curves: &[AccuracyCurve]) -> (f64, f64) {
    let lows = curves.iter().flat_map(|curve| &curve.points).map(|p| p.accuracy.low);
    let low = lows.fold(0.4, f64::min);
    (((low * 10.0).floor() / 10.0).max(0.0), 1.0)
}

/// The large picture: the first curve with its band, where it began, and the simple judges.
pub(super) fn overall(
    curves: &[AccuracyCurve],
    nulls: &[NullJudge],
    phases: &[PhaseStart],
) -> Option<String> {
    let curve = curves.first()?;
    let before = curve.points.first()?.accuracy.value;
    let mut rules =
        vec![Rule { value: before, label: format!("before {}", Unit::Share.show(before)), class: "before" }];
    rules.extend(null_rules(nulls));
    let chart = LineChart {
        label: "validation accuracy over the run",
        size: (1040.0, 400.0),
        margin: 190.0,
        unit: Unit::Share,
        range: Some(range(curves)),
        lines: &[line(curve, "hero")],
        rules: &rules,
        phases,
    };
    Some(chart.draw())
}

/// A line a simple judge.
pub(super) fn null_rules(nulls: &[NullJudge]) -> Vec<Rule> {
    let rule = |null: &NullJudge| Rule {
        value: null.overall.value,
        label: format!("{} {}", null.name, Unit::Share.show(null.overall.value)),
        class: "null",
    };
    nulls.iter().map(rule).collect()
}

/// A small picture a task, with its last value.
pub(super) fn tasks(curves: &[AccuracyCurve]) -> Vec<(String, String, String)> {
    let draw = |curve: &AccuracyCurve| {
        let last = curve.points.last()?.accuracy;
        let rules = [
            Rule { value: 0.5, label: String::new(), class: "null" },
            Rule { value: curve.points[0].accuracy.value, label: String::new(), class: "before" },
        ];
        let chart = LineChart {
            label: &format!("validation accuracy on {}", curve.name),
            size: (254.0, 180.0),
            margin: 10.0,
            unit: Unit::Share,
            range: Some(range(curves)),
            lines: &[line(curve, "hero")],
            rules: &rules,
            phases: &[],
        };
        Some((curve.name.clone(), Unit::Share.show(last.value), chart.draw()))
    };
    curves.iter().skip(1).filter_map(draw).collect()
}

/// Rows of the table that sets the trained judge beside simple ones: overall, then each task.
pub(super) fn null_table(curves: &[AccuracyCurve], nulls: &[NullJudge]) -> Option<Value> {
    if nulls.is_empty() {
        return None;
    }
    let names: Vec<String> = curves.iter().map(|curve| curve.name.clone()).collect();
    let cell = |estimate: Option<&Estimate>| {
        estimate.map(|e| context! { value => Unit::Share.show(e.value), interval => Unit::Share.show_interval(e.low, e.high) })
    };
    let of_run = |pick: fn(&AccuracyCurve) -> Option<&crate::report::run::AccuracyPoint>| {
        curves.iter().map(|curve| cell(pick(curve).map(|p| &p.accuracy))).collect::<Vec<_>>()
    };
    let mut rows = vec![
        context! { name => "trained", ours => true, cells => of_run(|curve| curve.points.last()) },
        context! { name => "before training", cells => of_run(|curve| curve.points.first()) },
    ];
    for null in nulls {
        let of =
            |name: &String| null.tasks.iter().find(|(task, _)| task == name).map(|(_, estimate)| estimate);
        let tasks = names.iter().skip(1).map(|name| cell(of(name)));
        let cells: Vec<_> = std::iter::once(cell(Some(&null.overall))).chain(tasks).collect();
        rows.push(context! { name => null.name.as_str(), cells });
    }
    Some(context! { names, rows })
}
