//! The curves of a run, grouped into panels: which metric is drawn with which, under what title.

use std::collections::BTreeMap;

use super::line_chart::{Line, LineChart, PhaseStart, Point};
use crate::report::metrics::Row;
use crate::report::unit::Unit;

/// Metrics that belong into one picture. A name that ends in `/*` stands for every name that begins so.
struct Panel {
    title: &'static str,
    about: &'static str,
    unit: Unit,
    lines: &'static [(&'static str, &'static str)],
}

/// Every metric patarm knows, in reading order. Names that TRL users already plot are TRL's.
const PANELS: &[Panel] = &[
    Panel {
        title: "Reward",
        about: "mean over the step's judgements: PAR and format",
        unit: Unit::Number,
        lines: &[("reward", "mean")],
    },
    Panel {
        title: "Score",
        about: "of the sampled judgements: mean and standard deviation",
        unit: Unit::Number,
        lines: &[("score/mean", "mean"), ("score/spread", "deviation")],
    },
    Panel {
        title: "Failures by kind",
        about: "share of judgements without a readable score",
        unit: Unit::Share,
        lines: &[("failures/*", "")],
    },
    Panel {
        title: "Groups without a signal",
        about: "all rewards equal: they leave the policy term",
        unit: Unit::Share,
        lines: &[("frac_reward_zero_std", "groups")],
    },
    Panel {
        title: "Pairs",
        about: "by the mean scores of their sides",
        unit: Unit::Share,
        lines: &[("pairs/win", "won"), ("pairs/tie", "tied"), ("pairs/loss", "lost")],
    },
    Panel {
        title: "Score saturation",
        about: "judgements at either end of the scale",
        unit: Unit::Share,
        lines: &[("score/saturation", "judgements")],
    },
    Panel {
        title: "Entropy",
        about: "of the policy a token, and of the score",
        unit: Unit::Nats,
        lines: &[("entropy", "token"), ("score/entropy", "score")],
    },
    Panel { title: "KL to the reference", about: "a token", unit: Unit::Nats, lines: &[("kl", "KL")] },
    Panel { title: "Loss", about: "of the policy", unit: Unit::Number, lines: &[("loss", "loss")] },
    Panel {
        title: "Clipped",
        about: "share of tokens at a bound of the ratio",
        unit: Unit::Share,
        lines: &[("clip_ratio/low_mean", "low"), ("clip_ratio/high_mean", "high")],
    },
    Panel {
        title: "Length",
        about: "tokens a judgement",
        unit: Unit::Tokens,
        lines: &[("completions/mean_length", "mean"), ("completions/max_length", "longest")],
    },
    Panel {
        title: "Cut off",
        about: "judgements that met the token limit",
        unit: Unit::Share,
        lines: &[("completions/clipped_ratio", "judgements")],
    },
    Panel {
        title: "Gradient norm",
        about: "before clipping",
        unit: Unit::Number,
        lines: &[("grad_norm", "norm")],
    },
    Panel { title: "Learning rate", about: "", unit: Unit::Number, lines: &[("learning_rate", "rate")] },
    Panel {
        title: "Speed",
        about: "tokens a second, prompt and completion",
        unit: Unit::TokensPerSecond,
        lines: &[("tokens_per_second", "all"), ("rollout/tokens_per_second", "sampling")],
    },
    Panel {
        title: "Time a step",
        about: "by phase of the step",
        unit: Unit::Seconds,
        lines: &[("step_time", "step"), ("time/*", "")],
    },
    Panel {
        title: "Reading",
        about: "loss of the language modelling that comes first",
        unit: Unit::Nats,
        lines: &[("reading/loss", "loss")],
    },
    Panel {
        title: "Cold start",
        about: "loss of the supervised start",
        unit: Unit::Nats,
        lines: &[("sft/loss", "loss")],
    },
];

/// Names that the page shows elsewhere.
const ELSEWHERE: &[&str] = &["eval/", "num_tokens", "reward_std"];

/// One drawn panel.
pub(super) struct Drawn {
    pub(super) title: String,
    pub(super) about: String,
    pub(super) legend: Vec<(String, String)>,
    pub(super) latest: String,
    pub(super) svg: String,
}

/// The curves that `rows` hold: known ones in their panels, every other name in one of its own.
pub(super) fn draw(rows: &[Row], phases: &[PhaseStart]) -> Vec<Drawn> {
    let mut series = series(rows);
    let mut drawn = Vec::new();
    for panel in PANELS {
        let lines = take(panel, &mut series);
        if !lines.is_empty() {
            drawn.push(draw_one(panel.title, panel.about, panel.unit, &lines, phases));
        }
    }
    for (name, points) in series {
        if !ELSEWHERE.iter().any(|known| name.starts_with(known)) {
            let line = Line { name: name.clone(), colour: "c0".into(), points };
            drawn.push(draw_one(&name, "", Unit::Number, &[line], phases));
        }
    }
    drawn
}

fn series(rows: &[Row]) -> BTreeMap<String, Vec<Point>> {
    let mut series: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for row in rows {
        for (name, value) in &row.values {
            series.entry(name.clone()).or_default().push(Point { step: row.step, value: *value, band: None });
        }
    }
    series
}

fn take(panel: &Panel, series: &mut BTreeMap<String, Vec<Point>>) -> Vec<Line> {
    let mut lines = Vec::new();
    for (pattern, label) in panel.lines {
        let begins = pattern.strip_suffix('*');
        let matches = |name: &str| begins.map_or(name == *pattern, |begin| name.starts_with(begin));
        let names: Vec<String> = series.keys().filter(|name| matches(name)).cloned().collect();
        for found in names {
            let points = series.remove(&found).unwrap_or_default();
            let rest = begins.map_or(*label, |begin| &found[begin.len()..]).replace('_', " ");
            lines.push(Line { colour: colour(&rest, lines.len()), name: rest, points });
        }
    }
    lines
}

/// The two sides have their own colours everywhere; other lines count through the palette.
fn colour(name: &str, index: usize) -> String {
    match name {
        "chosen" | "rejected" => name.into(),
        _ => format!("c{}", index % 6),
    }
}

fn draw_one(title: &str, about: &str, unit: Unit, lines: &[Line], phases: &[PhaseStart]) -> Drawn {
    let chart = LineChart {
        label: title,
        size: (344.0, 190.0),
        margin: 10.0,
        unit,
        range: None,
        lines,
        rules: &[],
        phases,
    };
    let latest = match lines {
        [line] => line.points.last().map(|p| unit.show(p.value)).unwrap_or_default(),
        _ => String::new(),
    };
    let legend = lines.iter().map(|line| (line.name.clone(), line.colour.clone())).collect();
    let legend = if lines.len() > 1 { legend } else { Vec::new() };
    Drawn { title: title.into(), about: about.into(), legend, latest, svg: chart.draw() }
}
