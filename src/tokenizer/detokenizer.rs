use std::collections::HashMap;
use std::sync::LazyLock;

use super::codec::Tokenizer;
use super::token::TokenId;

/// The 256 characters that stand for bytes in a byte-level vocabulary, in the order of their ids in one: printable
/// Latin-1 bytes stand for themselves, the others for U+0100 and up, in the order of the bytes.
pub(super) static BYTE_CHARS: LazyLock<Vec<(char, u8)>> = LazyLock::new(|| {
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let own = (0..=255).filter(printable).map(|byte| (char::from(byte), byte));
    let moved = (0..=255).filter(|byte| !printable(byte)).zip('\u{100}'..).map(|(byte, char)| (char, byte));
    own.chain(moved).collect()
});

static BYTE_OF: LazyLock<HashMap<char, u8>> = LazyLock::new(|| BYTE_CHARS.iter().copied().collect());

/// The bytes that a token of a byte-level vocabulary stands for. A token with any other character is its own text.
pub(super) fn token_bytes(token: &str) -> Vec<u8> {
    let mapped: Option<Vec<u8>> = token.chars().map(|char| BYTE_OF.get(&char).copied()).collect();
    mapped.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// Turns tokens into text one at a time, for streaming: a character is emitted when its last byte has come.
///
/// All pieces and [`Detokenizer::finish`] together equal [`Tokenizer::decode`] of all tokens.
#[derive(Debug)]
pub struct Detokenizer<'a> {
    tokenizer: &'a Tokenizer,
    specials: super::Specials,
    pending: Vec<u8>,
}

impl<'a> Detokenizer<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, specials: super::Specials) -> Self {
        Self { tokenizer, specials, pending: Vec::new() }
    }

    /// Takes one more token and returns the text that is now certain, often one word, sometimes nothing.
    pub fn push(&mut self, token: TokenId) -> String {
        self.pending.extend(self.tokenizer.bytes_of(token, self.specials));
        let keep = incomplete_tail(&self.pending);
        let tail = self.pending.split_off(self.pending.len() - keep);
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending = tail;
        text
    }

    /// The rest: U+FFFD where the last token left a character unfinished, else nothing.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// How many bytes at the end are the start of a character that more bytes may still complete (0 to 3).
fn incomplete_tail(bytes: &[u8]) -> usize {
    let invalid_end = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(invalid_end) {
        Err(error) if error.error_len().is_none() => invalid_end.len(),
        _ => 0,
    }
}
