use std::path::PathBuf;

use thiserror::Error;

/// Why a tokenizer or chat template could not be loaded, trained or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder lacks a file that every tokenizer needs.
    #[error("no {name} among the tokenizer's files; a Hugging Face folder has one beside config.json")]
    Missing {
        /// The file's name.
        name: &'static str,
    },
    /// A file is larger than any honest one.
    #[error("{name} is {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// The file's name.
        name: String,
        /// Its size.
        bytes: u64,
        /// The largest accepted size.
        limit: u64,
    },
    /// A file is not what its name promises.
    #[error("{name}: {reason}")]
    Malformed {
        /// The file's name.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is a tokenizer of a kind that is not read here.
    #[error("tokenizer.json: {feature} is not supported; use a byte-level BPE tokenizer without it")]
    Unsupported {
        /// The feature that was found.
        feature: String,
    },
    /// Text could not be encoded.
    #[error("encoding {bytes} bytes of text: {reason}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the tokenizer said.
        reason: String,
    },
    /// The folder has no chat template, as base models often do.
    #[error("no chat template: neither chat_template.jinja nor `chat_template` in tokenizer_config.json")]
    NoChatTemplate,
    /// A chat template that cannot be compiled, or that fails on this conversation.
    #[error("chat template: {reason}")]
    Template {
        /// What went wrong, with the template's line.
        reason: String,
    },
    /// The wished vocabulary has no room for all bytes and control tokens.
    #[error("a vocabulary of {wished} tokens is too small: bytes and control tokens alone are {least}")]
    VocabularyTooSmall {
        /// The wished size.
        wished: usize,
        /// The least possible size.
        least: usize,
    },
}
