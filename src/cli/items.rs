use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::output::say;
use super::rows::{Id, InputError, Place, Rejects, Rows, Said};
use crate::preference::{self, PreferencePair, Reason, RowError};
use crate::tokenizer::{Message, Role};
use crate::trainer::{TrainConfig, TrainError};

#[derive(Debug, Deserialize)]
struct Row {
    id: Option<Id>,
    task: Option<String>,
    prompt: Option<Said>,
    messages: Option<Vec<Message>>,
    response: String,
}

/// One response to be judged.
pub(super) struct Item {
    pub(super) id: Value,
    /// Of a pair: chosen or rejected.
    pub(super) side: Option<&'static str>,
    pub(super) task: String,
    pub(super) messages: Vec<Message>,
    pub(super) response: String,
    /// Where it stands, for messages.
    pub(super) place: String,
}

/// Responses of a file, or both sides of every pair of a file or folder; then the rows that are neither.
pub(super) fn responses(path: &Path, config: &TrainConfig) -> Result<(Vec<Item>, Vec<RowError>)> {
    if holds_pairs(path)? != Some(true) {
        let mut rejects = Rejects::new(config.data.skip_bad);
        let mut items = Vec::new();
        for row in Rows::<Row>::open(path)? {
            match row.and_then(|(place, row)| row.item(&place, &config.data.task)) {
                Ok(item) => items.push(item),
                Err(error) => rejects.take(error.into())?,
            }
        }
        return Ok((items, rejects.rows));
    }
    let (pairs, rejects) = read_pairs(path, config)?;
    let sides = pairs.into_iter().flat_map(|pair| {
        [("chosen", pair.chosen), ("rejected", pair.rejected)].map(|(side, response)| {
            let (task, messages) = (pair.task.clone(), pair.messages.clone());
            let place = format!("pair {}, {side}", pair.id);
            Item { id: pair.id.clone().into(), side: Some(side), task, messages, response, place }
        })
    });
    Ok((sides.collect(), rejects))
}

/// Pairs of a file or folder; then the rows that are none.
pub(super) fn pairs(path: &Path, config: &TrainConfig) -> Result<(Vec<PreferencePair>, Vec<RowError>)> {
    if holds_pairs(path)? == Some(false) {
        let reason = "two responses are judged side by side: rows need `chosen` and `rejected`";
        return Err(InputError::Form(reason)).with_context(|| path.display().to_string());
    }
    read_pairs(path, config)
}

fn read_pairs(path: &Path, config: &TrainConfig) -> Result<(Vec<PreferencePair>, Vec<RowError>)> {
    let dataset = preference::read(path, &config.data.read_options()).map_err(TrainError::from)?;
    if dataset.duplicates > 0 {
        say(&format!("{}: {} duplicate rows are judged once", path.display(), dataset.duplicates));
    }
    Ok((dataset.pairs, dataset.rejects))
}

/// Whether a file or folder holds preference pairs rather than responses, by its name or else by its first sound row;
/// none where there is no such row.
fn holds_pairs(path: &Path) -> Result<Option<bool>, InputError> {
    #[derive(Deserialize)]
    struct Form {
        chosen: Option<IgnoredAny>,
    }
    let name = path.to_string_lossy();
    if path.is_dir() || [".gz", ".zst", ".parquet"].iter().any(|end| name.ends_with(end)) {
        return Ok(Some(true));
    }
    Ok(Rows::<Form>::open(path)?.find_map(Result::ok).map(|(_, form)| form.chosen.is_some()))
}

impl Row {
    fn item(self, place: &Place, task: &str) -> Result<Item, InputError> {
        let messages = match (self.prompt, self.messages) {
            (Some(said), None) => said.turns(Role::User),
            (None, Some(turns)) => turns,
            _ => return Err(place.refuse("expected either `prompt` or `messages` beside `response`")),
        };
        if messages.iter().all(|message| message.content.trim().is_empty()) {
            return Err(place.bad("prompt", Reason::EmptyPrompt));
        }
        if self.response.trim().is_empty() {
            return Err(place.bad("response", Reason::EmptyResponse));
        }
        let (id, task) =
            (self.id.map_or(place.line.into(), |id| id.0), self.task.unwrap_or_else(|| task.to_owned()));
        Ok(Item { id, side: None, task, messages, response: self.response, place: place.to_string() })
    }
}
