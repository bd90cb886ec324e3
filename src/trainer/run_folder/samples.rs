use serde::{Deserialize, Serialize};

use crate::evaluation::Readings;
use crate::preference::PreferencePair;
use crate::rubric::{Score, VerdictError};
use crate::tokenizer::Message;

/// When a sample was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// After the cold start.
    Before,
    /// After reinforcement learning.
    After,
}

/// A pair with what the judge wrote of its two sides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JudgedSample {
    /// When.
    pub when: When,
    /// The pair's id.
    pub id: String,
    /// Its task.
    pub task: String,
    /// Its conversation.
    pub messages: Vec<Message>,
    /// The preferred response.
    pub chosen: JudgedResponse,
    /// The other one.
    pub rejected: JudgedResponse,
}

/// A response with its judgement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JudgedResponse {
    /// The response.
    pub response: String,
    /// What the judge wrote.
    pub judgement: String,
    /// The score, where there is one.
    pub score: Option<f64>,
    /// Why there is none.
    pub failure: Option<String>,
}

impl JudgedSample {
    /// The first judgement of each side of pair `place`; of two side by side, the first one in which it was shown first.
    pub(super) fn of(when: When, pair: &PreferencePair, (readings, place): (&Readings, usize)) -> Self {
        let [chosen, rejected] = match readings {
            Readings::Pointwise(readings) => readings[place].each_ref().map(|side| {
                let verdict = side[0].verdict.as_ref();
                (&side[0].text, verdict.map(|verdict| verdict.score))
            }),
            Readings::Pairwise(readings) => readings[place].each_ref().map(|order| {
                let verdict = order[0].verdict.as_ref();
                (&order[0].text, verdict.map(|verdict| verdict.scores[0]))
            }),
        };
        let side = |response: &str, (text, score): (&String, Result<Score, &VerdictError>)| JudgedResponse {
            response: response.to_owned(),
            judgement: text.clone(),
            score: score.ok().map(Score::value),
            failure: score.err().map(ToString::to_string),
        };
        Self {
            when,
            id: pair.id.clone(),
            task: pair.task.clone(),
            messages: pair.messages.clone(),
            chosen: side(&pair.chosen, chosen),
            rejected: side(&pair.rejected, rejected),
        }
    }
}
