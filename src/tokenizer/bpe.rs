//! The checked doorway to crate `tokenizers`: only byte-level BPE without surprises comes through.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value};
use tokenizers::{Model, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::error::TokenizerError;

const NAME: &str = "tokenizer.json";

/// Reads `tokenizer.json`, refusing what would make encoding random, lossy or dangerous.
pub(super) fn load(bytes: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let json: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    let added = check_added(&json["added_tokens"])?;
    check_model(&json["model"], &added)?;
    if json["decoder"]["type"] != "ByteLevel" {
        return Err(unsupported(format!("decoder type {}", json["decoder"]["type"])));
    }
    let built = catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(bytes)));
    let mut tokenizer = built
        .map_err(|_| malformed("no tokenizer can be built from it".into()))?
        .map_err(|error| malformed(error.to_string()))?;
    // A published file may carry its trainer's cut-off; cutting text in silence is never wanted.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
    Ok(tokenizer)
}

/// The control strings: every added token. Those that swallow neighbouring spaces are refused.
fn check_added(tokens: &Value) -> Result<HashSet<&str>, TokenizerError> {
    let mut contents = HashSet::new();
    for token in tokens.as_array().into_iter().flatten() {
        let content = token["content"].as_str().unwrap_or_default();
        if content.is_empty() {
            return Err(malformed("an added token without content".into()));
        }
        for flag in ["single_word", "lstrip", "rstrip"] {
            if token[flag] == true {
                return Err(unsupported(format!("`{flag}` of added token {content:?}")));
            }
        }
        contents.insert(content);
    }
    Ok(contents)
}

fn check_model(model: &Value, added: &HashSet<&str>) -> Result<(), TokenizerError> {
    if model["type"] != "BPE" {
        return Err(unsupported(format!("model type {}", model["type"])));
    }
    for key in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"] {
        let value = &model[key];
        let absent = value.is_null() || *value == false || *value == "" || value.as_f64() == Some(0.0);
        if !absent {
            return Err(unsupported(format!("`{key}` = {value}")));
        }
    }
    let vocab =
        model["vocab"].as_object().ok_or_else(|| malformed("`model.vocab` is not an object".into()))?;
    check_ids(vocab)?;
    // With `ignore_merges` a word that is a token is that token, so a control string must not be one.
    let whole_words = model["ignore_merges"] == true;
    let reachable =
        |token: &&&str| vocab.contains_key(**token) && (whole_words || token.chars().count() == 1);
    if let Some(token) = added.iter().find(reachable) {
        return Err(unsupported(format!("added token {token:?} that plain text can spell")));
    }
    check_merges(&model["merges"], vocab, added)
}

fn check_ids(vocab: &Map<String, Value>) -> Result<(), TokenizerError> {
    let mut ids = HashSet::with_capacity(vocab.len());
    for (token, id) in vocab {
        let id = id.as_u64().filter(|&id| id < u64::from(u32::MAX));
        if !id.is_some_and(|id| ids.insert(id)) {
            return Err(malformed(format!("the id of token {token:?} is not a number of its own")));
        }
    }
    Ok(())
}

/// Every merge joins two known tokens into a third (the crate panics on some that do not), and none of them spells a
/// control string: this is why plain text cannot yield a control token.
fn check_merges(
    merges: &Value,
    vocab: &Map<String, Value>,
    added: &HashSet<&str>,
) -> Result<(), TokenizerError> {
    let merges = merges.as_array().ok_or_else(|| malformed("`model.merges` is not a list".into()))?;
    for (rank, merge) in merges.iter().enumerate() {
        let stranger =
            || malformed(format!("merge {rank} does not join two tokens of the vocabulary into a third"));
        let (left, right) = merge_parts(merge).ok_or_else(stranger)?;
        let joined = format!("{left}{right}");
        if ![left, right, &joined].into_iter().all(|token| vocab.contains_key(token)) {
            return Err(stranger());
        }
        if added.contains(joined.as_str()) {
            return Err(unsupported(format!("added token {joined:?} that merge {rank} can spell")));
        }
    }
    Ok(())
}

/// A merge is `["a", "b"]`, or in older files `"a b"`.
fn merge_parts(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(text) => text.split_once(' '),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left, right)),
            _ => None,
        },
        _ => None,
    }
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

fn malformed(reason: String) -> TokenizerError {
    TokenizerError::Malformed { name: NAME, reason }
}

fn unsupported(feature: String) -> TokenizerError {
    TokenizerError::Unsupported { feature }
}
