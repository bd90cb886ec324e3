//! Judges that understand nothing. What they reach on held-out pairs is the floor below which no accuracy means anything.

mod logistic;
mod words;

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde::Serialize;

use self::logistic::NgramRegression;
use self::words::words;
use super::{Tally, Unread, compare};
use crate::preference::PreferencePair;

/// One null judge and how it did on the held-out pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NullJudge {
    /// What it looks at.
    pub name: &'static str,
    /// All held-out pairs.
    pub overall: Tally,
    /// The same pairs by task.
    pub per_task: BTreeMap<String, Tally>,
}

impl NullJudge {
    /// Share of all held-out pairs won, ties at half; NaN without pairs. A value far *below* one half gives as much away
    /// as one far above.
    pub fn accuracy(&self) -> f64 {
        self.overall.accuracy(Unread::Wrong).map_or(f64::NAN, |accuracy| accuracy.value)
    }
}

/// Runs every null judge over `held_out`; only the n-gram regression sees `train`. Rows in table order:
///
/// - `longest`, `shortest`: characters of the response.
/// - `first`: the response presented first, where the order hangs on a hash of the two texts and not on the label.
/// - `random`: a number drawn from `seed` for each response.
/// - `word overlap`: share of the response's distinct words that the conversation holds.
/// - `shared words`: number of those words.
/// - `n-gram regression`: L2-regularised logistic regression over unigrams and bigrams of the responses, fitted to
///   chosen-minus-rejected differences of `train`. A task that is not in `train` is judged like any other.
///
/// The result does not depend on the order of the rows of `held_out`.
pub fn table<P: Borrow<PreferencePair>>(train: &[P], held_out: &[P], seed: u64) -> Vec<NullJudge> {
    let regression = NgramRegression::fit(train);
    vec![
        judge("longest", held_out, |_, response| characters(response)),
        judge("shortest", held_out, |_, response| -characters(response)),
        judge("first", held_out, |_, response| drawn(b"order", "", response)),
        judge("random", held_out, |pair, response| drawn(&seed.to_le_bytes(), &pair.id, response)),
        judge("word overlap", held_out, |pair, response| overlap(pair, response).0),
        judge("shared words", held_out, |pair, response| overlap(pair, response).1),
        judge("n-gram regression", held_out, |_, response| regression.score(response)),
    ]
}

fn judge(
    name: &'static str,
    pairs: &[impl Borrow<PreferencePair>],
    score: impl Fn(&PreferencePair, &str) -> f64,
) -> NullJudge {
    let mut per_task = BTreeMap::<String, Tally>::new();
    for pair in pairs {
        let pair = pair.borrow();
        let tally = per_task.entry(pair.task.clone()).or_default();
        tally.count(compare(Some(score(pair, &pair.chosen)), Some(score(pair, &pair.rejected))));
    }
    let mut overall = Tally::default();
    per_task.values().for_each(|tally| overall += *tally);
    NullJudge { name, overall, per_task }
}

fn characters(response: &str) -> f64 {
    response.chars().count() as f64
}

/// A number that the texts decide and that knows nothing of the label: the leading 52 bits of a hash.
fn drawn(key: &[u8], id: &str, response: &str) -> f64 {
    let mut hasher = blake3::Hasher::new();
    for part in [key, id.as_bytes(), response.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut head = [0; 8];
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (u64::from_le_bytes(head) >> 12) as f64
}

/// Share and number of the response's distinct words that occur in the conversation.
fn overlap(pair: &PreferencePair, response: &str) -> (f64, f64) {
    let asked: std::collections::BTreeSet<_> =
        pair.messages.iter().flat_map(|message| words(&message.content)).collect();
    let answered: std::collections::BTreeSet<_> = words(response).into_iter().collect();
    let shared = answered.intersection(&asked).count() as f64;
    (shared / answered.len().max(1) as f64, shared)
}
