//! Text to tokens and back: byte-level BPE and chat templates.

mod message;
mod token;

pub use message::{Message, Role};
pub use token::TokenId;
