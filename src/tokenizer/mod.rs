//! Text to tokens and back: byte-level BPE and chat templates.
//!
//! Text is plain unless it is said otherwise: [`Tokenizer::encode`] never yields a control token, whatever the text
//! says. Only [`Tokenizer::encode_with_specials`] reads control strings, and only rendered templates go there.

mod bpe;
mod capped;
mod chat;
mod check;
mod codec;
mod detokenizer;
mod error;
mod files;
mod guard;
mod message;
mod shape;
mod template;
mod token;
mod train;

pub use chat::{ChatOptions, GenerationPrompt, Thinking};
pub use codec::{Specials, Tokenizer};
pub use detokenizer::Detokenizer;
pub use error::TokenizerError;
pub use files::TokenizerFiles;
pub use message::{Message, Role};
pub use template::ChatTemplate;
pub use token::TokenId;
pub use train::{TrainOptions, train};
