use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's answer.
    Tool,
}

/// One turn of a conversation, as chat templates see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, plain text.
    pub content: String,
}

impl Message {
    /// A turn of `role` saying `content`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// A turn as files have it. What a template would be shown besides role and content is not read here: it must be empty.
#[derive(Deserialize)]
struct Written {
    role: Role,
    content: String,
    #[serde(default)]
    reasoning_content: Unread,
    #[serde(default)]
    tool_calls: Unread,
}

/// Something that may stand in a file as long as it says nothing: null, empty text, an empty list. None of it is held.
#[derive(Default)]
struct Unread {
    says: bool,
}

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self::default())
    }
}

impl<'de> Visitor<'de> for Unread {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, text, a list or an object")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self, E> {
        Ok(Self { says: !text.is_empty() })
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {
            self.says = true;
        }
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self { says: true })
    }
}

impl TryFrom<Written> for Message {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { role, content, reasoning_content, tool_calls } = written;
        for (name, unread) in [("reasoning_content", reasoning_content), ("tool_calls", tool_calls)] {
            if unread.says {
                return Err(format!("`{name}` is not read: write it into `content`, or leave it out"));
            }
        }
        Ok(Self { role, content })
    }
}
