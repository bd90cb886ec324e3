use serde::Serialize;

use crate::evaluation::{Comparison, JudgedPair, PreparedPair, Readings, Vote};
use crate::reward::{Judgement, Standing};
use crate::rubric::{Score, VerdictError};

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
        let JudgedPair { chosen, rejected, standing, orders, .. } = judged;
        let vote = if orders.is_some() { Vote::Mean } else { vote };
        let [chosen, rejected] = [chosen, rejected].map(|side: &Vec<Judgement>| vote.score(side));
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
    let mut all = Vec::new();
    let mut add = |shown, sample, text, scores: Result<&[Score], &VerdictError>| {
        all.push(JudgementRecord {
            shown,
            sample,
            scores: scores.ok().map(|scores| scores.iter().map(|score| score.value()).collect()),
            failure: scores.err().map(ToString::to_string),
            text,
        });
    };
    match readings {
        Readings::Pointwise(readings) => {
            for (shown, side) in ["chosen", "rejected"].into_iter().zip(&readings[place]) {
                for (sample, reading) in side.iter().enumerate() {
                    let verdict = reading.verdict.as_ref();
                    add(shown, sample, &reading.text, verdict.map(|v| std::slice::from_ref(&v.score)));
                }
            }
        }
        Readings::Pairwise(readings) => {
            for (shown, order) in ["chosen_first", "rejected_first"].into_iter().zip(&readings[place]) {
                for (sample, reading) in order.iter().enumerate() {
                    let verdict = reading.verdict.as_ref();
                    add(shown, sample, &reading.text, verdict.map(|verdict| &verdict.scores[..]));
                }
            }
        }
    }
    all
}
