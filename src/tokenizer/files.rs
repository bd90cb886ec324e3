use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde_json::Value;

use super::error::TokenizerError;

/// Names that belong to a tokenizer in a Hugging Face folder, with the largest accepted size of each in bytes.
const NAMES: [(&str, u64); 9] = [
    ("tokenizer.json", 32 << 20),
    ("tokenizer_config.json", 4 << 20),
    ("chat_template.jinja", 1 << 20),
    ("generation_config.json", 1 << 20),
    ("config.json", 1 << 20),
    ("special_tokens_map.json", 1 << 20),
    ("added_tokens.json", 4 << 20),
    ("vocab.json", 32 << 20),
    ("merges.txt", 32 << 20),
];

/// The files a tokenizer came from, byte for byte, so that a model saved elsewhere takes exactly them along.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenizerFiles(BTreeMap<String, Vec<u8>>);

impl TokenizerFiles {
    /// Reads the files of a folder that belong to its tokenizer; those it lacks are skipped.
    ///
    /// # Errors
    /// A file that cannot be read, or one larger than its limit.
    pub fn read(dir: &Path) -> Result<Self, TokenizerError> {
        let mut files = Self::default();
        for (name, limit) in NAMES {
            if let Some(bytes) = read_capped(&dir.join(name), name, limit)? {
                files.insert(name, bytes);
            }
        }
        Ok(files)
    }

    /// Adds or replaces one file.
    pub fn insert(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.0.insert(name.to_owned(), bytes.into());
    }

    /// The bytes of one file.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Name and contents of each, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Writes every file into `dir`, except the model's own `config.json`, which only lent its end-of-text ids.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        for (name, bytes) in self.0.iter().filter(|(name, _)| *name != "config.json") {
            let path = dir.join(name);
            fs::write(&path, bytes).map_err(|source| TokenizerError::Io { path, source })?;
        }
        Ok(())
    }

    /// One file as JSON; `None` where there is no such file.
    pub(super) fn json(&self, name: &'static str) -> Result<Option<Value>, TokenizerError> {
        let Some(bytes) = self.get(name) else { return Ok(None) };
        serde_json::from_slice(bytes)
            .map(Some)
            .map_err(|error| TokenizerError::Malformed { name, reason: error.to_string() })
    }

    /// One file as text; `None` where there is no such file.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, TokenizerError> {
        let Some(bytes) = self.get(name) else { return Ok(None) };
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|error| TokenizerError::Malformed { name, reason: error.to_string() })
    }
}

impl fmt::Debug for TokenizerFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, bytes)| (name, bytes.len()))).finish()
    }
}

/// Reads at most `limit` bytes; a file that promises or turns out to hold more is an error before it is held.
fn read_capped(path: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, TokenizerError> {
    let io = |source| TokenizerError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let promised = file.metadata().map_err(io)?.len();
    let mut bytes = Vec::new();
    if promised <= limit {
        file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    }
    let found = promised.max(bytes.len() as u64);
    if found > limit {
        return Err(TokenizerError::TooLarge { name: name.to_owned(), bytes: found, limit });
    }
    Ok(Some(bytes))
}
