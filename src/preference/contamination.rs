use std::collections::HashMap;

use super::pair::PreferencePair;
use crate::tokenizer::Role;

/// Words in a row that two texts share by copying rather than by chance (the length that GPT-3's authors took).
pub const REPEATED_WORDS: usize = 13;

/// Ids that are named as examples.
const EXAMPLES: usize = 5;

/// Base of the rolling hash: odd, so that it has an inverse and no word is lost.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Held-out prompts that training text repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contamination {
    /// Held-out pairs whose prompt has 13 words in a row that stand in some training text.
    pub pairs: usize,
    /// Ids of the first of them.
    pub examples: Vec<String>,
}

/// Looks for 13 words in a row of a held-out prompt, as people asked it, in all that training reads: conversations and both
/// responses. Letter case and everything between words are ignored. Prompts of fewer words are not looked for: the split
/// has put equal ones on one side.
///
/// Each text is read once; time and memory grow with the words there are.
pub fn contamination<'a>(
    train: impl IntoIterator<Item = &'a PreferencePair>,
    held_out: impl IntoIterator<Item = &'a PreferencePair>,
) -> Contamination {
    let held_out: Vec<&PreferencePair> = held_out.into_iter().collect();
    let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, pair) in held_out.iter().enumerate() {
        let asked = pair.messages.iter().filter(|message| message.role == Role::User);
        for run in asked.flat_map(|message| runs(&message.content)) {
            known.entry(run).or_default().push(place);
        }
    }
    let mut found = vec![false; held_out.len()];
    for pair in train {
        let turns = pair.messages.iter().map(|message| message.content.as_str());
        for run in turns.chain([pair.chosen.as_str(), &pair.rejected]).flat_map(runs) {
            known.remove(&run).into_iter().flatten().for_each(|place| found[place] = true);
        }
    }
    let repeated = held_out.iter().zip(&found).filter(|(_, found)| **found).map(|(pair, _)| &pair.id);
    Contamination { pairs: repeated.clone().count(), examples: repeated.take(EXAMPLES).cloned().collect() }
}

/// A hash of every [`REPEATED_WORDS`] words in a row.
fn runs(text: &str) -> Vec<u64> {
    let words = words(text);
    let leaving = BASE.wrapping_pow(REPEATED_WORDS as u32);
    let mut hash = 0_u64;
    let rolled = words.iter().enumerate().map(|(place, word)| {
        hash = hash.wrapping_mul(BASE).wrapping_add(*word);
        if let Some(before) = place.checked_sub(REPEATED_WORDS) {
            hash = hash.wrapping_sub(words[before].wrapping_mul(leaving));
        }
        hash
    });
    rolled.skip(REPEATED_WORDS - 1).collect()
}

/// A hash of each word: letters and digits between anything else; signs of scripts that set no spaces stand alone.
fn words(text: &str) -> Vec<u64> {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    let mix = |hash: u64, char: char| (hash ^ u64::from(char)).wrapping_mul(0x0000_0100_0000_01b3);
    let (mut words, mut word) = (Vec::new(), START);
    for char in text.chars() {
        let alone = matches!(char, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}');
        if (alone || !char.is_alphanumeric()) && word != START {
            words.push(word);
            word = START;
        }
        if alone {
            words.push(mix(START, char));
        } else if char.is_alphanumeric() {
            word = char.to_lowercase().fold(word, mix);
        }
    }
    words.extend((word != START).then_some(word));
    words
}
