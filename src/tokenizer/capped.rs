//! Lists and maps of a JSON file that stop being read when they hold more than any honest file does.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The most tokens, and the most merges, that are read (Qwen3 has 151,643 and 151,387).
pub(super) const MOST_TOKENS: usize = 300_000;

/// Reads at most [`MOST_TOKENS`] names with their ids.
pub(super) fn map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashMap<String, u32>, D::Error> {
    deserializer.deserialize_map(CappedMap)
}

/// Reads at most [`MOST_TOKENS`] elements.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Capped(PhantomData::<T>))
}

struct Capped<T>(PhantomData<T>);

struct CappedMap;

impl<'de, T: Deserialize<'de>> Visitor<'de> for Capped<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST_TOKENS} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            if list.len() == MOST_TOKENS {
                return Err(A::Error::invalid_length(MOST_TOKENS + 1, &self));
            }
            list.push(element);
        }
        Ok(list)
    }
}

impl<'de> Visitor<'de> for CappedMap {
    type Value = HashMap<String, u32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST_TOKENS} entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = HashMap::new();
        while let Some((key, value)) = entries.next_entry()? {
            if map.len() == MOST_TOKENS {
                return Err(A::Error::invalid_length(MOST_TOKENS + 1, &self));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}
