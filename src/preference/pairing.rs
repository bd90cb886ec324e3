//! From a row's fields to a preference pair: TRL's explicit and implicit forms, text or turns, and our own.

use super::error::{Fault, Reason};
use super::options::ReadOptions;
use super::pair::PreferencePair;
use super::raw::{Cell, MOST_TURNS, RawRow, Turn};
use crate::tokenizer::{Message, Role};

/// What a prompt or response field says.
#[derive(Debug, PartialEq)]
enum Said {
    Text(String),
    Turns(Vec<Message>),
}

/// Prompt, chosen, rejected.
type Parts = (Vec<Message>, String, String);

/// Makes a pair of a row, or tells which field keeps it from being one.
pub(super) fn pair(row: RawRow, options: &ReadOptions) -> Result<PreferencePair, Fault> {
    let keys = &options.keys;
    let limit = options.max_cell_bytes;
    let id = label(row.id, "id", limit)?;
    let task = label(row.task, "task", limit)?.unwrap_or_else(|| options.default_task.clone());
    let prompt = said(row.prompt, &keys.prompt, limit)?;
    let prompt = prompt.map_or_else(|| said(row.messages, "messages", limit), |said| Ok(Some(said)))?;
    let missing = |name: &str| Fault::field(name, Reason::Missing);
    let chosen = said(row.chosen, &keys.chosen, limit)?.ok_or_else(|| missing(&keys.chosen))?;
    let rejected = said(row.rejected, &keys.rejected, limit)?.ok_or_else(|| missing(&keys.rejected))?;
    if chosen == rejected {
        return Err(Fault::row(Reason::ChosenEqualsRejected));
    }
    let (messages, chosen, rejected) = parts(prompt, chosen, rejected, options)?;
    check(&messages, &chosen, &rejected, options)?;
    let mut pair = PreferencePair { id: String::new(), task, messages, chosen, rejected };
    pair.id = id.unwrap_or_else(|| pair.content_hash().to_hex().to_string());
    Ok(pair)
}

fn parts(prompt: Option<Said>, chosen: Said, rejected: Said, options: &ReadOptions) -> Result<Parts, Fault> {
    match (prompt, chosen, rejected) {
        (None, Said::Text(chosen), Said::Text(rejected)) => implicit_text(&chosen, &rejected),
        (None, Said::Turns(chosen), Said::Turns(rejected)) => implicit_turns(chosen, rejected, options),
        (None, ..) => Err(Fault::row(Reason::MixedForms)),
        (Some(Said::Text(prompt)), Said::Turns(chosen), Said::Turns(rejected)) if opens(&chosen) => {
            let parts = implicit_turns(chosen, rejected, options)?;
            let among = parts.0.iter().any(|turn| turn.role == Role::User && turn.content == prompt);
            let foreign = || Fault::field(&options.keys.prompt, Reason::ForeignPrompt);
            if among { Ok(parts) } else { Err(foreign()) }
        }
        (Some(prompt), chosen, rejected) => {
            let messages = match prompt {
                Said::Text(text) => vec![Message::new(Role::User, text)],
                Said::Turns(turns) => turns,
            };
            let chosen = response(chosen, &messages, &options.keys.chosen)?;
            let rejected = response(rejected, &messages, &options.keys.rejected)?;
            Ok((messages, chosen, rejected))
        }
    }
}

/// Whether turns start a whole conversation rather than answer one.
fn opens(turns: &[Message]) -> bool {
    turns.first().is_some_and(|turn| turn.role != Role::Assistant)
}

/// TRL's `extract_prompt` for text: the longest common beginning is the prompt, but a space at its end belongs to the
/// responses.
fn implicit_text(chosen: &str, rejected: &str) -> Result<Parts, Fault> {
    let pairs = chosen.char_indices().zip(rejected.chars());
    let common: usize = pairs.take_while(|((_, a), b)| a == b).map(|((_, char), _)| char.len_utf8()).sum();
    let prompt = &chosen[..common];
    let prompt = prompt.strip_suffix(' ').unwrap_or(prompt);
    if prompt.is_empty() {
        return Err(Fault::row(Reason::NoCommonPrefix));
    }
    let messages = vec![Message::new(Role::User, prompt)];
    Ok((messages, chosen[prompt.len()..].to_owned(), rejected[prompt.len()..].to_owned()))
}

/// TRL's `extract_prompt` for turns: the longest common beginning is the prompt.
fn implicit_turns(
    chosen: Vec<Message>,
    rejected: Vec<Message>,
    options: &ReadOptions,
) -> Result<Parts, Fault> {
    let common = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return Err(Fault::row(Reason::NoCommonPrefix));
    }
    let messages = chosen[..common].to_vec();
    let chosen = one_turn(&chosen[common..], &options.keys.chosen)?;
    let rejected = one_turn(&rejected[common..], &options.keys.rejected)?;
    Ok((messages, chosen, rejected))
}

/// A response to a known prompt: text, a turn, or a conversation that repeats the prompt first.
fn response(said: Said, messages: &[Message], field: &str) -> Result<String, Fault> {
    match said {
        Said::Text(text) => Ok(text),
        Said::Turns(turns) => one_turn(turns.strip_prefix(messages).unwrap_or(&turns), field),
    }
}

fn one_turn(turns: &[Message], field: &str) -> Result<String, Fault> {
    let fault = |reason| Fault::field(field, reason);
    match turns {
        [] => Err(fault(Reason::EmptyResponse)),
        [.., last] if last.role != Role::Assistant => Err(fault(Reason::LastTurnNotAssistant)),
        [only] => Ok(only.content.clone()),
        _ => Err(fault(Reason::SeveralTurns { turns: turns.len() })),
    }
}

/// What must hold of every pair, whatever form it came in.
fn check(messages: &[Message], chosen: &str, rejected: &str, options: &ReadOptions) -> Result<(), Fault> {
    let keys = &options.keys;
    match messages.last() {
        None => return Err(Fault::field(&keys.prompt, Reason::EmptyPrompt)),
        Some(last) if last.content.trim().is_empty() => {
            return Err(Fault::field(&keys.prompt, Reason::EmptyPrompt));
        }
        Some(last) if !matches!(last.role, Role::User | Role::Tool) => {
            return Err(Fault::field(&keys.prompt, Reason::PromptAnswered));
        }
        Some(_) => {}
    }
    for (name, text) in [(&keys.chosen, chosen), (&keys.rejected, rejected)] {
        if text.trim().is_empty() {
            return Err(Fault::field(name, Reason::EmptyResponse));
        }
    }
    match chosen.trim() == rejected.trim() {
        true => Err(Fault::row(Reason::ChosenEqualsRejected)),
        false => Ok(()),
    }
}

fn label(cell: Cell, field: &str, limit: usize) -> Result<Option<String>, Fault> {
    match cell {
        Cell::Absent => Ok(None),
        Cell::Number(number) => Ok(Some(number)),
        Cell::Text(text) => Ok(Some(checked(text, field, limit)?)),
        _ => Err(Fault::field(field, Reason::WrongType { expected: "text or a number" })),
    }
}

fn said(cell: Cell, field: &str, limit: usize) -> Result<Option<Said>, Fault> {
    match cell {
        Cell::Absent => Ok(None),
        Cell::Text(text) => Ok(Some(Said::Text(checked(text, field, limit)?))),
        Cell::Turns(turns) => {
            let numbered = turns.into_iter().enumerate();
            let messages = numbered.map(|(place, turn)| message(turn, &format!("{field}[{place}]"), limit));
            Ok(Some(Said::Turns(messages.collect::<Result<_, _>>()?)))
        }
        Cell::TooManyTurns => Err(Fault::field(field, Reason::TooManyTurns { limit: MOST_TURNS })),
        Cell::Number(_) | Cell::Other => {
            Err(Fault::field(field, Reason::WrongType { expected: "text or a list of turns" }))
        }
    }
}

fn message(turn: Turn, field: &str, limit: usize) -> Result<Message, Fault> {
    let role = match turn.role {
        Cell::Text(role) => role,
        _ => return Err(Fault::field(field, Reason::MissingRole)),
    };
    let role = match role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(Fault::field(&format!("{field}.role"), Reason::UnknownRole { role })),
    };
    if let Some(unread) = turn.unread {
        return Err(Fault::field(&format!("{field}.{unread}"), Reason::Unread));
    }
    let field = format!("{field}.content");
    match turn.content {
        Cell::Text(text) => Ok(Message::new(role, checked(text, &field, limit)?)),
        Cell::Absent => Err(Fault::field(&field, Reason::Missing)),
        _ => Err(Fault::field(&field, Reason::WrongType { expected: "text" })),
    }
}

fn checked(text: String, field: &str, limit: usize) -> Result<String, Fault> {
    if text.len() > limit {
        return Err(Fault::field(field, Reason::OversizedCell { bytes: text.len(), limit }));
    }
    if text.contains('\0') {
        return Err(Fault::field(field, Reason::ContainsNul));
    }
    Ok(text)
}
