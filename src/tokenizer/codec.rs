use std::path::Path;

use serde_json::Value;

use super::bpe;
use super::detokenizer::{Detokenizer, token_bytes};
use super::error::TokenizerError;
use super::files::TokenizerFiles;
use super::template::ChatTemplate;
use super::token::TokenId;

/// Whether control tokens are written out when tokens become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// As their own text.
    Keep,
    /// Left out. Added tokens that are not marked special in `tokenizer.json` (`<think>`) stay.
    Skip,
}

/// A byte-level BPE tokenizer, with the files it came from.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    files: TokenizerFiles,
    vocab_size: usize,
    /// Control strings with their ids and whether they are special, longest first, so that the first match is the longest.
    controls: Vec<Control>,
    eos: Vec<TokenId>,
    template: Option<ChatTemplate>,
}

/// A control string: an added token of `tokenizer.json`.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) text: String,
    pub(super) id: TokenId,
    special: bool,
}

impl Tokenizer {
    /// Loads the tokenizer of a Hugging Face folder.
    ///
    /// # Errors
    /// Files that are missing, too large, damaged, or describe anything but byte-level BPE; a chat template that does
    /// not compile.
    pub fn from_dir(dir: &Path) -> Result<Self, TokenizerError> {
        Self::from_files(TokenizerFiles::read(dir)?)
    }

    /// Loads a `tokenizer.json` that stands alone: no chat template, no end-of-text ids.
    ///
    /// # Errors
    /// Bytes that describe anything but byte-level BPE.
    pub fn from_bytes(tokenizer_json: &[u8]) -> Result<Self, TokenizerError> {
        let mut files = TokenizerFiles::default();
        files.insert("tokenizer.json", tokenizer_json);
        Self::from_files(files)
    }

    /// Loads a tokenizer from files in memory.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`].
    pub fn from_files(files: TokenizerFiles) -> Result<Self, TokenizerError> {
        let json = files.get("tokenizer.json").ok_or(TokenizerError::Missing { name: "tokenizer.json" })?;
        let inner = bpe::load(json)?;
        let mut controls: Vec<Control> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .map(|(id, token)| Control { text: token.content, id: TokenId(id), special: token.special })
            .collect();
        controls.sort_by(|a, b| (b.text.len(), &a.text).cmp(&(a.text.len(), &b.text)));
        let eos = eos_ids(&files, &inner)?;
        let template = ChatTemplate::from_files(&files)?;
        Ok(Self { vocab_size: bpe::vocabulary_size(&inner), inner, files, controls, eos, template })
    }

    /// The tokens of plain text. Control strings in it are encoded letter by letter: no text yields a control token.
    ///
    /// # Errors
    /// Text that the tokenizer's normaliser or splitter gives up on.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let ids = bpe::encode_plain(&self.inner, text)?;
        Ok(ids.into_iter().map(TokenId).collect())
    }

    /// The tokens of text whose control strings mean what they say: rendered templates, never anything a user wrote.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_specials(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        self.encode_between_controls(text, |piece| self.encode(piece))
    }

    /// Control strings of `text` become their tokens; what stands between them goes through `encode`.
    pub(super) fn encode_between_controls(
        &self,
        text: &str,
        encode: impl Fn(&str) -> Result<Vec<TokenId>, TokenizerError>,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((start, control)) = self.find_control(rest) {
            tokens.extend(encode(&rest[..start])?);
            tokens.push(control.id);
            rest = &rest[start + control.text.len()..];
        }
        tokens.extend(encode(rest)?);
        Ok(tokens)
    }

    /// The first control string in `text`, and where it starts.
    fn find_control(&self, text: &str) -> Option<(usize, &Control)> {
        let at = |start| self.control_at(&text[start..]).map(|(_, control)| (start, control));
        text.char_indices().find_map(|(start, _)| at(start))
    }

    /// The longest control string that `text` starts with, and its place among [`Tokenizer::controls`].
    pub(super) fn control_at(&self, text: &str) -> Option<(usize, &Control)> {
        self.controls.iter().enumerate().find(|(_, control)| text.starts_with(&control.text))
    }

    pub(super) fn controls(&self) -> &[Control] {
        &self.controls
    }

    /// The text of tokens. Bytes that form no character become U+FFFD; ids outside the vocabulary are nothing.
    pub fn decode(&self, tokens: &[TokenId], specials: Specials) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.bytes_of(token, specials)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Decodes one token at a time.
    pub fn detokenizer(&self, specials: Specials) -> Detokenizer<'_> {
        Detokenizer::new(self, specials)
    }

    /// The bytes one token stands for.
    pub(super) fn bytes_of(&self, token: TokenId, specials: Specials) -> Vec<u8> {
        match self.controls.iter().find(|control| control.id == token) {
            Some(control) if control.special && specials == Specials::Skip => Vec::new(),
            Some(control) => control.text.as_bytes().to_vec(),
            None => self.inner.id_to_token(token.0).map_or_else(Vec::new, |text| token_bytes(&text)),
        }
    }

    /// The id of a token by its exact text in the vocabulary, most often of a control token.
    pub fn token_id(&self, token: &str) -> Option<TokenId> {
        self.inner.token_to_id(token).map(TokenId)
    }

    /// Whether an id is a control token: one that only templates may write.
    pub fn is_control(&self, token: TokenId) -> bool {
        self.controls.iter().any(|control| control.id == token)
    }

    /// One more than the largest id. A model may have more rows than that.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The ids that end a text, from the first of generation_config.json, config.json, tokenizer_config.json that
    /// names any. Empty where none does.
    pub fn eos(&self) -> &[TokenId] {
        &self.eos
    }

    /// The chat template, where the folder has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// The files this tokenizer came from.
    pub fn files(&self) -> &TokenizerFiles {
        &self.files
    }

    /// Writes the tokenizer's files into a model's folder, byte for byte as they were read.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        self.files.save(dir)
    }

    pub(super) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }
}

fn eos_ids(files: &TokenizerFiles, inner: &tokenizers::Tokenizer) -> Result<Vec<TokenId>, TokenizerError> {
    for name in ["generation_config.json", "config.json"] {
        let ids = match files.json(name)?.map(|mut json| json["eos_token_id"].take()) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(ids)) => ids,
            Some(id) => vec![id],
        };
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).map(TokenId);
        let wrong = || TokenizerError::Malformed {
            name,
            reason: "`eos_token_id` is not an id or a list of ids".into(),
        };
        return ids.iter().map(|value| id(value).ok_or_else(wrong)).collect();
    }
    let config = files.json("tokenizer_config.json")?.unwrap_or_default();
    let eos = &config["eos_token"];
    let text = eos.as_str().or_else(|| eos["content"].as_str());
    Ok(text.and_then(|text| inner.token_to_id(text)).map(TokenId).into_iter().collect())
}
