//! A row as its file has it, before anyone asks whether it is a preference pair.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::error::{Fault, Reason};
use super::nesting::Nesting;
use super::options::Keys;

/// Turns of one conversation beyond which a row is refused.
pub(super) const MOST_TURNS: usize = 1024;

/// Brackets within brackets beyond which a row is refused, even in fields that are passed over.
const DEEPEST: usize = 64;

/// The fields of a row that matter; all others are passed over without being held.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RawRow {
    pub(super) id: Cell,
    pub(super) task: Cell,
    pub(super) prompt: Cell,
    pub(super) messages: Cell,
    pub(super) chosen: Cell,
    pub(super) rejected: Cell,
}

impl RawRow {
    /// The cell of a field by its name in the file.
    pub(super) fn cell(&mut self, name: &str, keys: &Keys) -> Option<&mut Cell> {
        match name {
            _ if name == keys.prompt => Some(&mut self.prompt),
            _ if name == keys.chosen => Some(&mut self.chosen),
            _ if name == keys.rejected => Some(&mut self.rejected),
            "messages" => Some(&mut self.messages),
            "task" => Some(&mut self.task),
            "id" => Some(&mut self.id),
            _ => None,
        }
    }
}

/// One value of a row.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Cell {
    /// Not there, or null.
    #[default]
    Absent,
    /// Text.
    Text(String),
    /// A number, in its own spelling: ids often are.
    Number(String),
    /// A list of turns.
    Turns(Vec<Turn>),
    /// A list of more than [`MOST_TURNS`].
    TooManyTurns,
    /// Anything else.
    Other,
}

/// Fields of a turn that say something a judge would have to see, and does not: a turn that has one is refused, so that no
/// response is judged by half of what it is. Null, empty text and empty lists say nothing.
pub(super) const UNREAD: [&str; 2] = ["reasoning_content", "tool_calls"];

impl Cell {
    /// Whether there is anything in it.
    fn says(&self) -> bool {
        match self {
            Self::Absent => false,
            Self::Text(text) => !text.is_empty(),
            Self::Turns(turns) => !turns.is_empty(),
            Self::Number(_) | Self::TooManyTurns | Self::Other => true,
        }
    }
}

/// One turn of a conversation; what is no object is a turn of which nothing is known.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Turn {
    pub(super) role: Cell,
    pub(super) content: Cell,
    /// The first of [`UNREAD`] that says something.
    pub(super) unread: Option<&'static str>,
}

/// Reads one row of JSON as whatever a command needs.
///
/// # Errors
/// Bytes that are no shallow JSON, a NUL character, or fields other than those of `T`.
pub fn parse_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Reason> {
    let text = text(bytes)?;
    if holds_nul(text) {
        return Err(Reason::ContainsNul);
    }
    serde_json::from_str(text).map_err(|error| reason(text, &error))
}

/// Whether a text of the JSON has a NUL character, which JSON can only write as an escape.
fn holds_nul(json: &str) -> bool {
    let mut rest = json;
    while let Some((_, escape)) = rest.split_once('\\') {
        if escape.starts_with("u0000") {
            return true;
        }
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

/// The row as text that a parser may be let at.
fn text(bytes: &[u8]) -> Result<&str, Reason> {
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8)?;
    if Nesting::deepest(bytes) > DEEPEST { Err(Reason::TooDeep) } else { Ok(text) }
}

/// Reads one row of JSON.
pub(super) fn parse(bytes: &[u8], keys: &Keys) -> Result<RawRow, Fault> {
    let text = text(bytes).map_err(Fault::row)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = RowSeed(keys).deserialize(&mut json).and_then(|row| json.end().map(|()| row));
    parsed.map_err(|error| Fault::row(reason(text, &error)))
}

fn reason(text: &str, error: &serde_json::Error) -> Reason {
    let detail = error.to_string();
    match () {
        () if error.is_eof() => Reason::CutShort,
        () if detail.contains("surrogate") || detail.contains("unexpected end of hex escape") => {
            Reason::LoneSurrogate
        }
        () if error.is_data() && !text.trim_start().starts_with('{') => Reason::NotAnObject,
        () if error.is_data() => Reason::Unfit { detail },
        () => Reason::NotJson { detail },
    }
}

struct RowSeed<'a>(&'a Keys);

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = RawRow;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawRow, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = RawRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<RawRow, A::Error> {
        let mut row = RawRow::default();
        while let Some(name) = fields.next_key::<String>()? {
            match row.cell(&name, self.0) {
                Some(cell) => *cell = fields.next_value_seed(CellSeed(Inside::Row))?,
                None => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(row)
    }
}

/// What the value is part of: lists are conversations in a row, and strangers anywhere deeper.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Row,
    List,
    Turn,
}

struct CellSeed(Inside);

impl<'de> DeserializeSeed<'de> for CellSeed {
    type Value = Cell;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cell, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Cell, E> {
        Ok(Cell::Absent)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cell, E> {
        Ok(Cell::Text(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Cell, E> {
        Ok(Cell::Number(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Cell, E> {
        Ok(Cell::Number(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Cell, E> {
        Ok(Cell::Number(number.to_string()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Cell, E> {
        Ok(Cell::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Cell, A::Error> {
        let mut turns = Vec::new();
        while self.0 == Inside::Row
            && turns.len() <= MOST_TURNS
            && let Some(cell) = elements.next_element_seed(CellSeed(Inside::List))?
        {
            turns.push(match cell {
                Cell::Turns(mut turn) => turn.pop().unwrap_or_default(),
                _ => Turn::default(),
            });
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(match self.0 {
            Inside::Row if turns.len() > MOST_TURNS => Cell::TooManyTurns,
            Inside::Row => Cell::Turns(turns),
            Inside::List | Inside::Turn => Cell::Other,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Cell, A::Error> {
        let mut turn = Turn::default();
        while let Some(name) = fields.next_key::<String>()? {
            match (self.0, name.as_str()) {
                (Inside::List, "role") => turn.role = fields.next_value_seed(CellSeed(Inside::Turn))?,
                (Inside::List, "content") => turn.content = fields.next_value_seed(CellSeed(Inside::Turn))?,
                (Inside::List, name) if UNREAD.contains(&name) => {
                    let says = fields.next_value_seed(CellSeed(Inside::Row))?.says();
                    turn.unread = turn.unread.or(UNREAD.into_iter().find(|unread| says && *unread == name));
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(if self.0 == Inside::List { Cell::Turns(vec![turn]) } else { Cell::Other })
    }
}
