//! The one door to crate `tokenizers`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{Model, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::check::check;
use super::error::TokenizerError;

/// Builds the tokenizer of a `tokenizer.json` that passed [`check`].
pub(super) fn load(json: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    check(json)?;
    let malformed = |reason: String| TokenizerError::Malformed { name: "tokenizer.json", reason };
    let built = catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(json)));
    let mut tokenizer = built
        .map_err(|_| malformed("no tokenizer can be built from it".into()))?
        .map_err(|error| malformed(error.to_string()))?;
    // A published file may carry its trainer's cut-off; cutting text in silence is never wanted.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
    Ok(tokenizer)
}

/// Encodes text in which no control string means anything: normaliser, splitter and merges, no added vocabulary.
pub(super) fn encode_plain(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
) -> Result<Vec<u32>, TokenizerError> {
    let encoded = split(tokenizer, text).and_then(|mut pieces| {
        pieces.tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))?;
        pieces.into_encoding(None, 0, OffsetType::None)
    });
    let failed =
        |reason: tokenizers::Error| TokenizerError::Encode { bytes: text.len(), reason: reason.to_string() };
    Ok(encoded.map_err(failed)?.get_ids().to_vec())
}

/// The pieces of text within which bytes may merge, in the alphabet of [`super::detokenizer::BYTE_CHARS`].
pub(super) fn words(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<String>, TokenizerError> {
    let failed =
        |reason: tokenizers::Error| TokenizerError::Encode { bytes: text.len(), reason: reason.to_string() };
    let pieces = split(tokenizer, text).map_err(failed)?;
    let pieces = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Ok(pieces.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

fn split(tokenizer: &tokenizers::Tokenizer, text: &str) -> tokenizers::Result<PreTokenizedString> {
    let mut pieces = PreTokenizedString::from(text);
    if let Some(normalizer) = tokenizer.get_normalizer() {
        pieces.normalize(|piece| normalizer.normalize(piece))?;
    }
    if let Some(splitter) = tokenizer.get_pre_tokenizer() {
        splitter.pre_tokenize(&mut pieces)?;
    }
    Ok(pieces)
}

/// The number of rows an embedding needs: one more than the largest id.
pub(super) fn vocabulary_size(tokenizer: &tokenizers::Tokenizer) -> usize {
    let largest = tokenizer.get_vocab(true).into_values().max();
    largest.map_or(0, |id| id as usize + 1)
}
