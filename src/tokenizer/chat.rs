use serde::{Deserialize, Serialize};
use serde_json::json;

use super::codec::Tokenizer;
use super::error::TokenizerError;
use super::message::Message;
use super::token::TokenId;

/// Whether the rendered conversation ends with the opening of the model's next turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GenerationPrompt {
    /// It does: the model is about to speak.
    #[default]
    Add,
    /// It ends with its last turn.
    Omit,
}

/// Whether the model is to think before it answers, where its template knows the difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    /// Left to the model (`enable_thinking=true`: Qwen3 writes its own `<think>`).
    On,
    /// An empty thought is put into its mouth (`enable_thinking=false`).
    #[default]
    Off,
}

/// How a conversation becomes tokens. The default is what judging uses: the model is about to speak, without thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatOptions {
    /// Whether the model's turn is opened.
    pub generation_prompt: GenerationPrompt,
    /// Whether the model thinks.
    pub thinking: Thinking,
}

/// Stands before every placeholder. A noncharacter, which text has no business to hold; where it does, it is replaced like
/// a control string, so that after [`shield`] it opens placeholders only.
const MARK: char = '\u{FDD0}';

/// Placeholders are [`MARK`] and one private character that counts from here.
const FIRST: char = '\u{F0000}';

impl Tokenizer {
    /// The tokens of a conversation as the model's chat template renders it.
    ///
    /// Control tokens come from the template alone: control strings in a message stand for their letters. Before
    /// rendering they become placeholders, so the template does not see them either; without them the tokens are those
    /// of the published template. (A template that deletes letters from within a message, or that joins one to half a
    /// control string of its own, would defeat this; none does.)
    ///
    /// # Errors
    /// No template; a template that refuses this conversation, or spends more than its fuel.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        options: &ChatOptions,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        let template = self.chat_template().ok_or(TokenizerError::NoChatTemplate)?;
        let shielded: Vec<Message> = messages
            .iter()
            .map(|message| Message::new(message.role, shield(self, &message.content)))
            .collect();
        let rendered = template.render(&json!({
            "messages": shielded,
            "add_generation_prompt": options.generation_prompt == GenerationPrompt::Add,
            "enable_thinking": options.thinking == Thinking::On,
        }))?;
        self.encode_between_controls(&rendered, |piece| self.encode(&unshield(self, piece)?))
    }
}

/// Replaces every control string, and every [`MARK`], by a placeholder.
fn shield(tokenizer: &Tokenizer, text: &str) -> String {
    let mut shielded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let found = tokenizer.control_at(rest).map(|(place, control)| (place, control.text.len()));
        let own_mark = (first == MARK).then_some((tokenizer.controls().len(), MARK.len_utf8()));
        let taken = match own_mark.or(found) {
            Some((place, len)) => {
                shielded.extend([MARK, placeholder(place)]);
                len
            }
            None => {
                shielded.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    shielded
}

/// Puts back what [`shield`] took out.
fn unshield(tokenizer: &Tokenizer, text: &str) -> Result<String, TokenizerError> {
    let mut restored = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != MARK {
            restored.push(char);
            continue;
        }
        let place = chars.next().and_then(|char| u32::from(char).checked_sub(u32::from(FIRST)));
        match place.and_then(|place| tokenizer.controls().get(place as usize)) {
            Some(control) => restored.push_str(&control.text),
            None if place == u32::try_from(tokenizer.controls().len()).ok() => restored.push(MARK),
            None => return Err(cut_apart()),
        }
    }
    Ok(restored)
}

fn placeholder(place: usize) -> char {
    u32::try_from(place)
        .ok()
        .and_then(|place| char::from_u32(u32::from(FIRST) + place))
        .expect("loading refuses more added tokens than there are private characters in this plane")
}

fn cut_apart() -> TokenizerError {
    TokenizerError::Template { reason: "it cuts a message in the middle of a control string".into() }
}
