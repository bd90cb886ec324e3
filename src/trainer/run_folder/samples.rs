use serde::{Deserialize, Serialize};

use crate::evaluation::Reading;
use crate::preference::PreferencePair;
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
    /// The first judgement of each side.
    pub(super) fn of(when: When, pair: &PreferencePair, [chosen, rejected]: &[Vec<Reading>; 2]) -> Self {
        let side = |response: &str, reading: &Reading| JudgedResponse {
            response: response.to_owned(),
            judgement: reading.text.clone(),
            score: reading.judgement().score().map(|score| score.value()),
            failure: reading.verdict.as_ref().err().map(ToString::to_string),
        };
        Self {
            when,
            id: pair.id.clone(),
            task: pair.task.clone(),
            messages: pair.messages.clone(),
            chosen: side(&pair.chosen, &chosen[0]),
            rejected: side(&pair.rejected, &rejected[0]),
        }
    }
}
