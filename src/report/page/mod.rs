//! `report.html`: one file, nothing fetched from anywhere, for people who would rather look than read.

mod accuracy;
mod line_chart;
mod panels;
mod picture;
mod scale;
mod score_charts;
mod svg;

use minijinja::value::Value;
use minijinja::{Environment, context};

use self::line_chart::PhaseStart;
use super::metrics::Row;
use super::run::{Answer, Comparison, Fact, Headline, Judgement, Outcome, RunReport, Sample, ScoreHistory};
use super::statistics::Estimate;
use super::unit::Unit;

impl RunReport {
    /// The whole page. Every text of the run is escaped: a judgement may hold anything.
    pub fn page(&self) -> String {
        let phases = phases(&self.rows);
        let panels = panels::draw(&self.rows, &phases);
        let mut environment = Environment::new();
        environment
            .add_template("page.html", include_str!("page.html"))
            .expect("the page's template is well formed");
        let template = environment.get_template("page.html").expect("it was just added");
        let parts = context! {
            style => safe(include_str!("page.css")),
            script => safe(include_str!("page.js")),
            nonce => self.nonce(),
            title => self.title.as_str(),
            summary => self.summary.as_str(),
            config => self.config.as_str(),
            provenance => facts(&self.provenance),
            alarms => facts(&self.alarms),
            headline => self.headline.iter().map(headline).collect::<Vec<_>>(),
            overall => accuracy::overall(&self.accuracy, &self.nulls, &phases).map(|svg| safe(&svg)),
            tasks => accuracy::tasks(&self.accuracy).into_iter()
                .map(|(name, last, svg)| context! { name, last, svg => safe(&svg) }).collect::<Vec<_>>(),
            comparison => self.comparison.iter().map(compared).collect::<Vec<_>>(),
            nulls => accuracy::null_table(&self.accuracy, &self.nulls),
            scores => scores(&self.scores),
            panels => panels.iter().map(panel).collect::<Vec<_>>(),
            samples => self.samples.iter().map(sample).collect::<Vec<_>>(),
        };
        template.render(parts).expect("the page's template asks only for what it is given")
    }

    /// The one script's password. Derived from all of the content, so no content can hold it.
    fn nonce(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{self:?}").as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

fn facts(facts: &[Fact]) -> Vec<Value> {
    facts.iter().map(|fact| context! { name => fact.name.as_str(), value => fact.value.as_str() }).collect()
}

fn panel(panel: &panels::Drawn) -> Value {
    let key = |line: &(String, String)| context! { name => line.0.as_str(), colour => line.1.as_str() };
    context! {
        title => panel.title.as_str(), about => panel.about.as_str(), latest => panel.latest.as_str(),
        legend => panel.legend.iter().map(key).collect::<Vec<_>>(), svg => safe(&panel.svg),
    }
}

/// Markup of our own making.
fn safe(markup: &str) -> Value {
    Value::from_safe_string(markup.to_owned())
}

/// Where each phase of the run begins; nothing where there is only one.
fn phases(rows: &[Row]) -> Vec<PhaseStart> {
    let mut found: Vec<PhaseStart> = Vec::new();
    for row in rows {
        if found.last().is_none_or(|last| last.name != row.phase) {
            found.push(PhaseStart { step: row.step, name: row.phase.clone() });
        }
    }
    if found.len() > 1 { found } else { Vec::new() }
}

fn headline(number: &Headline) -> Value {
    let interval = number.interval.map(|(low, high)| number.unit.show_interval(low, high));
    // A share has a place on a line from 0 to 1: the interval can be drawn.
    let drawn = match (number.unit, number.interval) {
        (Unit::Share, Some((low, high))) => Some(context! {
            left => 100.0 * low, width => 100.0 * (high - low), at => 100.0 * number.value,
        }),
        _ => None,
    };
    let (figure, unit) = number.unit.show_apart(number.value);
    context! { label => number.label.as_str(), figure, unit, interval, drawn, note => number.note.as_str() }
}

fn compared(row: &Comparison) -> Value {
    let show = |estimate: &Option<Estimate>, unit: Unit| {
        estimate.as_ref().map(|e| {
            let interval = (e.low < e.high).then(|| unit.show_interval(e.low, e.high));
            context! { value => unit.show(e.value), interval }
        })
    };
    let unit = if row.unit == Unit::Share { Unit::Points } else { row.unit };
    let sign = match row.better {
        super::run::Better::Higher => 1.0,
        super::run::Better::Lower => -1.0,
        super::run::Better::Neither => 0.0,
    };
    // Good or bad only where the interval leaves zero out.
    let verdict = row.change.map_or("", |c| match (sign * c.low, sign * c.high) {
        (a, b) if a > 0.0 && b > 0.0 => "good",
        (a, b) if a < 0.0 && b < 0.0 => "bad",
        _ => "",
    });
    context! {
        label => row.label.as_str(), before => show(&row.before, row.unit), after => show(&row.after, row.unit),
        change => show(&row.change, unit), verdict,
    }
}

fn scores(history: &ScoreHistory) -> Option<Value> {
    let bins = history.edges.len().checked_sub(1).filter(|bins| *bins > 0)?;
    let fits = |s: &&super::run::ScoreSnapshot| s.chosen.len() == bins && s.rejected.len() == bins;
    let snapshots: Vec<_> = history.snapshots.iter().filter(fits).cloned().collect();
    let (first, last) = (snapshots.first()?, snapshots.last()?);
    let highest = score_charts::highest([first, last]);
    let heat = ScoreHistory { edges: history.edges.clone(), snapshots: snapshots.clone() };
    Some(context! {
        before => safe(&score_charts::histogram(&history.edges, first, highest)),
        after => (snapshots.len() > 1).then(|| safe(&score_charts::histogram(&history.edges, last, highest))),
        first_step => first.step, last_step => last.step,
        heat => (snapshots.len() > 2).then(|| safe(&score_charts::heat_map(&heat))),
    })
}

fn sample(sample: &Sample) -> Value {
    let moment = |pick: fn(&Answer) -> &Option<Judgement>| {
        let scores = (score(pick(&sample.chosen)), score(pick(&sample.rejected)));
        match scores {
            (Some(chosen), Some(rejected)) if chosen > rejected => "right",
            (Some(chosen), Some(rejected)) if chosen < rejected => "wrong",
            (Some(_), Some(_)) => "tie",
            _ => "unread",
        }
    };
    let side = |answer: &Answer| {
        let judged = |judgement: &Option<Judgement>| {
            judgement.as_ref().map(|j| match &j.outcome {
                Outcome::Score(score) => {
                    context! { score => score.to_string(), text => j.text.as_str() }
                }
                Outcome::Failure(kind) => context! { failure => kind.as_str(), text => j.text.as_str() },
            })
        };
        context! { text => answer.text.as_str(), before => judged(&answer.before), after => judged(&answer.after) }
    };
    context! {
        task => sample.task.as_str(), prompt => sample.prompt.as_str(),
        chosen => side(&sample.chosen), rejected => side(&sample.rejected),
        before => moment(|a| &a.before), after => moment(|a| &a.after),
    }
}

fn score(judgement: &Option<Judgement>) -> Option<f64> {
    match judgement.as_ref()?.outcome {
        Outcome::Score(score) => Some(score),
        Outcome::Failure(_) => None,
    }
}
