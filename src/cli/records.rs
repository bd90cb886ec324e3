use serde::Serialize;

use crate::evaluation::{Comparison, Expected, JudgedPair, PreparedPair, Reading, Readings, Vote};
use crate::reward::Standing;
use crate::rubric::Score;

/// What became of one pair, as a line of `evaluate --out`.
#[derive(Debug, Serialize)]
pub(super) struct PairRecord<'a> {
    id: &'a str,
    task: &'a str,
    standing: Standing,
    /// Side by side: with the chosen response first, and with the rejected one first.
    #[serde(skip_serializing_if = "Option::is_none")]
    orders: Option<[Standing; 2]>,
    /// The scores that were compared; side by side the mean scores.
    chosen: Option<f64>,
    rejected: Option<f64>,
    judgements: Vec<JudgementRecord<'a>>,
}

/// One judgement.
#[derive(Debug, Serialize)]
struct JudgementRecord<'a> {
    /// The response, or the one that stood first.
    shown: &'static str,
    sample: usize,
    /// One, or one for each response in the order shown.
    scores: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mass: Option<f64>,
    failure: Option<String>,
    text: &'a str,
}

/// A record of every pair.
pub(super) fn records<'a>(
    pairs: &'a [PreparedPair],
    comparison: &'a Comparison,
    vote: Vote,
) -> impl Iterator<Item = PairRecord<'a>> {
    pairs.iter().zip(&comparison.judged).enumerate().map(move |(place, (prepared, judged))| {
        let JudgedPair { standing, orders, expected, .. } = judged;
        let vote = if orders.is_some() { Vote::Mean } else { vote };
        let [chosen, rejected] = match expected {
            Some(expected) => expected.each_ref().map(|side| Expected::mean(side)),
            None => [&judged.chosen, &judged.rejected].map(|side| vote.score(side)),
        };
        PairRecord {
            id: &prepared.pair.id,
            task: &prepared.pair.task,
            standing: *standing,
            orders: *orders,
            chosen,
            rejected,
            judgements: judgements(&comparison.readings, place),
        }
    })
}

fn judgements(readings: &Readings, place: usize) -> Vec<JudgementRecord<'_>> {
    match readings {
        Readings::Pointwise(readings) => {
            let sides = ["chosen", "rejected"].into_iter().zip(&readings[place]);
            sides.flat_map(|(shown, side)| all(shown, side, |verdict| vec![verdict.score])).collect()
        }
        Readings::Pairwise(readings) => {
            let orders = ["chosen_first", "rejected_first"].into_iter().zip(&readings[place]);
            orders.flat_map(|(shown, order)| all(shown, order, |verdict| verdict.scores.to_vec())).collect()
        }
    }
}

fn all<'a, V>(
    shown: &'static str,
    readings: &'a [Reading<V>],
    scores: impl Fn(&V) -> Vec<Score>,
) -> Vec<JudgementRecord<'a>> {
    let record = |(sample, reading): (usize, &'a Reading<V>)| JudgementRecord {
        shown,
        sample,
        scores: reading.verdict.as_ref().ok().map(|v| scores(v).into_iter().map(Score::value).collect()),
        expected: reading.expected.map(|expected| expected.score),
        mass: reading.expected.map(|expected| expected.mass),
        failure: reading.verdict.as_ref().err().map(ToString::to_string),
        text: &reading.text,
    };
    readings.iter().enumerate().map(record).collect()
}
