use super::Baseline;
use super::outcome::Outcome;
use super::progress::Evaluated;
use super::run_folder::{JudgedResponse, JudgedSample, When};
use crate::evaluation::Summary;
use crate::report::{
    AccuracyCurve, AccuracyPoint, Answer, Better, Comparison, Estimate, Fact, Headline, Judgement, NullJudge,
    Outcome as Read, Row, RunReport, Sample, ScoreHistory, ScoreSnapshot, Unit,
};

impl Outcome {
    /// The run as a page.
    pub fn page(
        &self,
        config: &str,
        provenance: Vec<Fact>,
        samples: &[JudgedSample],
        rows: Vec<Row>,
    ) -> RunReport {
        let curve: Vec<&Evaluated> = self.curve.iter().collect();
        RunReport {
            title: match self.baseline {
                None => "A judge learns from pairs".into(),
                Some(Baseline::BradleyTerry) => "A Bradley-Terry reward model learns from pairs".into(),
            },
            summary: self.summary(),
            alarms: self
                .alarms
                .iter()
                .map(|a| Fact::new(format!("step {}", a.step), a.text.as_str()))
                .collect(),
            headline: self.headline(),
            accuracy: curves(&curve),
            nulls: self.nulls(),
            comparison: self.comparison(),
            scores: ScoreHistory {
                edges: (0..=10).map(|i| f64::from(i) + 0.5).collect(),
                snapshots: curve.iter().map(|e| snapshot(e)).collect(),
            },
            samples: paired(samples),
            config: config.to_owned(),
            provenance,
            rows,
        }
    }

    fn summary(&self) -> String {
        let [train, validation, held_out] = self.pairs;
        let learned = match self.baseline {
            None => "PAR with GRPO",
            Some(Baseline::BradleyTerry) => "Bradley-Terry",
        };
        format!(
            "{} weights, seed {}: {} steps of cold start and {} steps of {learned} on {train} pairs, in {:.0} seconds. \
             The curves show {validation} validation pairs; the weights of step {} were best there, and are judged on \
             {held_out} held-out pairs.",
            self.parameters, self.seed, self.steps[0], self.steps[1], self.seconds, self.best_step
        )
    }

    fn headline(&self) -> Vec<Headline> {
        let before = self.before.as_ref().and_then(|b| b.overall.accuracy);
        let after = self.after.overall.accuracy;
        let number = |label: &str, value, unit, note: String| Headline {
            label: label.into(),
            value,
            unit,
            interval: None,
            note,
        };
        let mut headline: Vec<Headline> = after
            .map(|e| Headline {
                label: "Held-out accuracy".into(),
                value: e.value,
                unit: Unit::Share,
                interval: Some((e.low, e.high)),
                note: before
                    .map_or(String::new(), |b| format!("{} after the cold start", Unit::Share.show(b.value))),
            })
            .into_iter()
            .collect();
        headline.extend(self.change.map(|e| Headline {
            label: "Gained".into(),
            value: e.value,
            unit: Unit::Points,
            interval: Some((e.low, e.high)),
            note: "over the same pairs".into(),
        }));
        // A judge that writes nothing fails at nothing.
        let (failures, ties) = (self.after.overall.failure_rate, self.after.overall.tie_rate);
        let failed =
            |share| number("Without a verdict", share, Unit::Share, "of all held-out judgements".into());
        headline.extend(failures.map(failed));
        headline.extend(ties.map(|share| number("Ties", share, Unit::Share, "earn half".into())));
        headline.push(number("Time", self.seconds, Unit::Seconds, "cold start and all".into()));
        let speed =
            number("Speed", self.tokens_per_second, Unit::TokensPerSecond, "sampled and learned".into());
        headline.extend((self.tokens_drawn > 0).then_some(speed));
        headline
    }

    fn nulls(&self) -> Vec<NullJudge> {
        let judges = self.baselines.iter().filter_map(|row| {
            let tasks = row.tasks.iter().filter_map(|(task, e)| e.map(|e| (task.clone(), e)));
            Some(NullJudge { name: row.name.clone(), overall: row.overall?, tasks: tasks.collect() })
        });
        judges.collect()
    }

    fn comparison(&self) -> Vec<Comparison> {
        let before = self.before.as_ref();
        let row = |label: String, better, before, after, change| Comparison {
            label,
            unit: Unit::Share,
            better,
            before,
            after,
            change,
        };
        let was = before.and_then(|b| b.overall.accuracy);
        let mut rows =
            vec![row("accuracy".into(), Better::Higher, was, self.after.overall.accuracy, self.change)];
        for (task, summary) in &self.after.tasks {
            let was = before.and_then(|b| b.tasks.iter().find(|(name, _)| name == task));
            let was = was.and_then(|(_, summary)| summary.accuracy);
            rows.push(row(task.clone(), Better::Higher, was, summary.accuracy, None));
        }
        let was = before.map(|b| &b.overall);
        let now = &self.after.overall;
        let ties = |s: &Summary| exact(s.tie_rate, s.pairs);
        rows.push(row("ties".into(), Better::Neither, was.and_then(ties), ties(now), None));
        let failures = |s: &Summary| exact(s.failure_rate, s.judgements);
        rows.push(row(
            "without a verdict".into(),
            Better::Lower,
            was.and_then(failures),
            failures(now),
            None,
        ));
        rows
    }
}

/// A share of counted things with Wilson's interval.
fn exact(share: Option<f64>, n: u64) -> Option<Estimate> {
    share.and_then(|share| crate::report::wilson(share * n as f64, n).ok())
}

fn curves(curve: &[&Evaluated]) -> Vec<AccuracyCurve> {
    let point = |step, summary: &Summary| summary.accuracy.map(|accuracy| AccuracyPoint { step, accuracy });
    let overall = curve.iter().filter_map(|e| point(e.step, &e.overall)).collect();
    let tasks: Vec<&str> =
        curve.first().map(|e| e.tasks.iter().map(|(t, _)| t.as_str()).collect()).unwrap_or_default();
    let task = |name: &str| AccuracyCurve {
        name: name.to_owned(),
        points: curve
            .iter()
            .filter_map(|e| e.tasks.iter().find(|(t, _)| t == name).and_then(|(_, s)| point(e.step, s)))
            .collect(),
    };
    let first = AccuracyCurve { name: "overall".into(), points: overall };
    std::iter::once(first).chain(tasks.into_iter().map(task)).collect()
}

fn snapshot(evaluated: &Evaluated) -> ScoreSnapshot {
    let [chosen, rejected] = evaluated.histogram.map(|counts| counts.to_vec());
    ScoreSnapshot { step: evaluated.step, chosen, rejected }
}

/// Samples before and after, pair by pair.
fn paired(samples: &[JudgedSample]) -> Vec<Sample> {
    let find = |id: &str, when| samples.iter().find(|s| s.when == when && s.id == id);
    let judgement = |side: &JudgedResponse| Judgement {
        text: side.judgement.clone(),
        outcome: side
            .score
            .map_or_else(|| Read::Failure(side.failure.clone().unwrap_or_default()), Read::Score),
    };
    let shown = samples.iter().filter(|s| s.when == When::After).map(|after| {
        let before = find(&after.id, When::Before);
        let answer = |side: fn(&JudgedSample) -> &JudgedResponse| Answer {
            text: side(after).response.clone(),
            before: before.map(|b| judgement(side(b))),
            after: Some(judgement(side(after))),
        };
        let prompt: Vec<&str> = after.messages.iter().map(|m| m.content.as_str()).collect();
        Sample {
            task: after.task.clone(),
            prompt: prompt.join("\n"),
            chosen: answer(|s| &s.chosen),
            rejected: answer(|s| &s.rejected),
        }
    });
    shown.collect()
}
