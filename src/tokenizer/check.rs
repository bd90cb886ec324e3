//! What a published `tokenizer.json` must be before crate `tokenizers` sees it: byte-level BPE in which encoding is not
//! random, loses no ordinary text, text cannot grow, and plain text cannot spell a control token.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::capped;
use super::detokenizer::BYTE_CHARS;
use super::error::TokenizerError;

/// Added tokens beyond which no honest file goes (Qwen3 has 26); text is searched for each of them.
const MOST_ADDED_TOKENS: usize = 1024;

/// Counted repetitions, multiplied, beyond which no honest splitter goes (Qwen3's has none, others have `{1,3}`).
const MOST_REPEATS: u64 = 1000;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(default, borrow)]
    added_tokens: Vec<Added<'a>>,
    normalizer: Option<Step<'a>>,
    pre_tokenizer: Option<Step<'a>>,
    decoder: Option<Step<'a>>,
    model: Model<'a>,
}

#[derive(Deserialize)]
struct Added<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

/// A normaliser, splitter or decoder, by its name; a sequence of splitters has them under `pretokenizers`.
#[derive(Deserialize)]
struct Step<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    pretokenizers: Vec<Step<'a>>,
    #[serde(default, borrow)]
    pattern: Option<Pattern<'a>>,
}

/// What a splitter looks for.
#[derive(Deserialize)]
struct Pattern<'a> {
    #[serde(default, borrow, rename = "Regex")]
    expression: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    dropout: Option<f32>,
    unk_token: Option<Cow<'a, str>>,
    continuing_subword_prefix: Option<Cow<'a, str>>,
    end_of_word_suffix: Option<Cow<'a, str>>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(deserialize_with = "capped::map")]
    vocab: HashMap<String, u32>,
    #[serde(borrow, deserialize_with = "capped::list")]
    merges: Vec<Merge<'a>>,
}

/// `["a", "b"]`, or in older files `"a b"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>),
    Line(#[serde(borrow)] Cow<'a, str>),
}

impl Merge<'_> {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(left, right) => Some((left, right)),
            Self::Line(line) => line.split_once(' '),
        }
    }
}

/// Refuses every `tokenizer.json` that is not what the head of this file says.
pub(super) fn check(json: &[u8]) -> Result<(), TokenizerError> {
    let file: File<'_> = serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
    check_steps(&file)?;
    let added = check_added(&file.added_tokens)?;
    check_model(&file.model)?;
    check_vocabulary(&file.model, &added)?;
    check_merges(&file.model, &added)
}

/// Bytes go in and come out through the byte alphabet, and nothing on the way makes text longer.
fn check_steps(file: &File<'_>) -> Result<(), TokenizerError> {
    if let Some(normalizer) = &file.normalizer
        && !["NFC", "NFD", "NFKC", "NFKD"].contains(&&*normalizer.kind)
    {
        return Err(unsupported(format!("normalizer `{}`", normalizer.kind)));
    }
    let whole = file.pre_tokenizer.as_slice();
    let splitters = whole.iter().chain(whole.iter().flat_map(|step| &step.pretokenizers));
    let expressions = splitters.clone().filter_map(|step| step.pattern.as_ref());
    if expressions.map(|pattern| repeats(&pattern.expression)).any(|repeats| repeats > MOST_REPEATS) {
        return Err(unsupported("a splitter that repeats its parts without measure".into()));
    }
    let kinds: Vec<&str> = splitters.map(|step| &*step.kind).collect();
    if let Some(kind) = kinds.iter().find(|kind| !["Sequence", "Split", "Digits", "ByteLevel"].contains(kind))
    {
        return Err(unsupported(format!("pre_tokenizer `{kind}`")));
    }
    if !kinds.contains(&"ByteLevel") || file.decoder.as_ref().is_none_or(|step| step.kind != "ByteLevel") {
        return Err(unsupported("a pre_tokenizer or decoder other than `ByteLevel`".into()));
    }
    Ok(())
}

/// The product of all counted repetitions (`{3}`, `{1,3}`) of an expression: how much larger it is compiled, at worst.
fn repeats(expression: &str) -> u64 {
    let counts = expression.split('{').skip(1).filter_map(|rest| {
        let counts = rest.split_once('}')?.0.split(',');
        counts.filter_map(|count| count.trim().parse::<u64>().ok()).max()
    });
    counts.fold(1, |all, count| all.saturating_mul(count.max(1)))
}

/// The control strings: every added token. Those that swallow neighbouring spaces are refused.
fn check_added<'a>(tokens: &'a [Added<'_>]) -> Result<HashSet<&'a str>, TokenizerError> {
    if tokens.len() > MOST_ADDED_TOKENS {
        return Err(unsupported(format!("a list of {} added tokens", tokens.len())));
    }
    for token in tokens {
        if token.content.is_empty() {
            return Err(malformed("an added token without content".into()));
        }
        if token.single_word || token.lstrip || token.rstrip {
            return Err(unsupported(format!("strip or single_word of added token {:?}", token.content)));
        }
    }
    Ok(tokens.iter().map(|token| &*token.content).collect())
}

fn check_model(model: &Model<'_>) -> Result<(), TokenizerError> {
    let set = |text: &Option<Cow<'_, str>>| text.as_ref().is_some_and(|text| !text.is_empty());
    let refused = [
        (model.kind != "BPE", "a model other than `BPE`"),
        (model.dropout.is_some_and(|share| share != 0.0), "`dropout`, which makes encoding random"),
        (set(&model.unk_token), "`unk_token`"),
        (set(&model.continuing_subword_prefix), "`continuing_subword_prefix`"),
        (set(&model.end_of_word_suffix), "`end_of_word_suffix`"),
        (model.byte_fallback, "`byte_fallback`"),
    ];
    match refused.into_iter().find(|(found, _)| *found) {
        Some((_, feature)) => Err(unsupported(feature.into())),
        None => Ok(()),
    }
}

fn check_vocabulary(model: &Model<'_>, added: &HashSet<&str>) -> Result<(), TokenizerError> {
    let mut ids = HashSet::with_capacity(model.vocab.len());
    if let Some((token, id)) = model.vocab.iter().find(|(_, id)| **id == u32::MAX || !ids.insert(**id)) {
        return Err(malformed(format!("token {token:?} has no id of its own: {id}")));
    }
    let missing = |char: char| !model.vocab.contains_key(char.encode_utf8(&mut [0; 4]) as &str);
    let needed = BYTE_CHARS.iter().filter(|(_, byte)| is_ordinary(*byte));
    if let Some(char) = needed.map(|(char, _)| *char).find(|char| missing(*char)) {
        return Err(unsupported(format!("a vocabulary without the byte {char:?}")));
    }
    // With `ignore_merges` a word that is a token is that token, so a control string must not be one.
    let spelt = |token: &&&str| {
        model.vocab.contains_key(**token) && (model.ignore_merges || token.chars().count() == 1)
    };
    match added.iter().find(spelt) {
        Some(token) => Err(unsupported(format!("added token {token:?}, which plain text can spell,"))),
        None => Ok(()),
    }
}

/// Whether a byte occurs in text of the Basic Multilingual Plane or in emoji, control characters aside. A vocabulary may lack
/// the others (SmolLM2's does); they are then left out of the tokens, as by the publisher's own tokenizer.
fn is_ordinary(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..=0xBF | 0xC2..=0xF0)
}

/// Every merge joins two known tokens into a third (the crate panics on some that do not), and none spells a control
/// string.
fn check_merges(model: &Model<'_>, added: &HashSet<&str>) -> Result<(), TokenizerError> {
    let mut joined = String::new();
    for (rank, merge) in model.merges.iter().enumerate() {
        let stranger =
            || malformed(format!("merge {rank} does not join two tokens of the vocabulary into a third"));
        let (left, right) = merge.parts().ok_or_else(stranger)?;
        joined.clear();
        joined.extend([left, right]);
        if [left, right, &joined].into_iter().any(|token| !model.vocab.contains_key(token)) {
            return Err(stranger());
        }
        if added.contains(joined.as_str()) {
            return Err(unsupported(format!("added token {joined:?}, which merge {rank} can spell,")));
        }
    }
    Ok(())
}

fn malformed(reason: String) -> TokenizerError {
    TokenizerError::Malformed { name: "tokenizer.json", reason }
}

fn unsupported(feature: String) -> TokenizerError {
    TokenizerError::Unsupported { feature }
}
