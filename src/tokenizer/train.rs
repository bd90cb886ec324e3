use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::bpe;
use super::codec::Tokenizer;
use super::detokenizer::BYTE_CHARS;
use super::error::TokenizerError;
use super::files::TokenizerFiles;

/// The control tokens of a trained tokenizer, after all others, in this order: end of text (also the padding), start and
/// end of a turn.
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// How Qwen3 cuts text into pieces within which bytes may merge: words with their leading space, single digits,
/// runs of signs, line ends, spaces.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// ChatML without thinking.
const CHAT_TEMPLATE: &str = "{%- for message in messages %}\
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
    {%- endfor %}\
    {%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/// What a trained tokenizer should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// Tokens in all, control tokens and the 256 bytes included; fewer where the text has no more pairs to merge.
    pub vocab_size: usize,
    /// A pair of tokens is merged only if the text has it at least this often.
    pub min_frequency: u64,
    /// Pieces that stay whole before Qwen3's rule cuts the rest: alternatives of a regular expression, or nothing. Text
    /// with marks that return in one form (tags, say) gets by with fewer tokens.
    pub whole: String,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self { vocab_size: 1024, min_frequency: 2, whole: String::new() }
    }
}

/// Trains a byte-level BPE tokenizer with a ChatML template, like Qwen3's but small.
///
/// Merges go by frequency, ties by the lower pair of ids, so that the result depends on nothing but the texts' words
/// and their counts: not on order, threads or hash seeds. Each merge passes over all distinct words, which suits
/// vocabularies of thousands, not a corpus.
///
/// # Errors
/// A vocabulary too small for the bytes and control tokens.
pub fn train<T: AsRef<str>>(
    texts: impl IntoIterator<Item = T>,
    options: &TrainOptions,
) -> Result<Tokenizer, TokenizerError> {
    let least = BYTE_CHARS.len() + CONTROLS.len();
    if options.vocab_size < least {
        return Err(TokenizerError::VocabularyTooSmall { wished: options.vocab_size, least });
    }
    let mut learner = Learner::new(&options.whole);
    learner.count_words(texts)?;
    while learner.tokens.len() + CONTROLS.len() < options.vocab_size {
        let Some(pair) = learner.most_frequent(options.min_frequency) else { break };
        learner.merge(pair);
    }
    Tokenizer::from_files(learner.files())
}

type Pair = (usize, usize);

/// The vocabulary so far, and every distinct word as tokens of it.
struct Learner {
    split: String,
    tokens: Vec<String>,
    merges: Vec<Pair>,
    words: Vec<(Vec<usize>, u64)>,
    /// How often each pair stands in the words.
    counts: HashMap<Pair, u64>,
}

impl Learner {
    fn new(whole: &str) -> Self {
        let split = if whole.is_empty() { SPLIT.to_owned() } else { format!("{whole}|{SPLIT}") };
        let tokens = BYTE_CHARS.iter().map(|(char, _)| char.to_string()).collect();
        Self { split, tokens, merges: Vec::new(), words: Vec::new(), counts: HashMap::new() }
    }

    fn count_words<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<(), TokenizerError> {
        let splitter = Tokenizer::from_files(self.files())?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for text in texts {
            for word in bpe::words(splitter.inner(), text.as_ref())? {
                *counts.entry(word).or_default() += 1;
            }
        }
        let id_of: HashMap<char, usize> =
            BYTE_CHARS.iter().enumerate().map(|(id, &(char, _))| (char, id)).collect();
        let ids = |word: String| word.chars().map(|char| id_of[&char]).collect();
        self.words = counts.into_iter().map(|(word, count)| (ids(word), count)).collect();
        for (word, count) in &self.words {
            for pair in pairs(word) {
                *self.counts.entry(pair).or_default() += count;
            }
        }
        Ok(())
    }

    fn most_frequent(&self, min_frequency: u64) -> Option<Pair> {
        let counts = self.counts.iter().map(|(&pair, &count)| (count, Reverse(pair)));
        let (count, Reverse(pair)) = counts.max()?;
        (count >= min_frequency.max(1)).then_some(pair)
    }

    fn merge(&mut self, (left, right): Pair) {
        let text = format!("{}{}", self.tokens[left], self.tokens[right]);
        // Two different pairs may spell one token: the second merge leads to the same id.
        let joined = self.tokens.iter().position(|token| *token == text).unwrap_or(self.tokens.len());
        if joined == self.tokens.len() {
            self.tokens.push(text);
        }
        // A pair can come back that way too; its first merge already stands for it.
        if !self.merges.contains(&(left, right)) {
            self.merges.push((left, right));
        }
        for (word, count) in &mut self.words {
            if !pairs(word).any(|pair| pair == (left, right)) {
                continue;
            }
            for pair in pairs(word) {
                *self.counts.entry(pair).or_default() -= *count;
            }
            join(word, (left, right), joined);
            for pair in pairs(word) {
                *self.counts.entry(pair).or_default() += *count;
            }
        }
    }

    fn files(&self) -> TokenizerFiles {
        let mut files = TokenizerFiles::default();
        files.insert("tokenizer.json", pretty(&self.tokenizer_json()));
        files.insert("tokenizer_config.json", pretty(&self.tokenizer_config()));
        let [pad, _, end] = self.control_ids();
        files.insert(
            "generation_config.json",
            pretty(&json!({ "eos_token_id": [end, pad], "pad_token_id": pad })),
        );
        files
    }

    fn control_ids(&self) -> [usize; 3] {
        [0, 1, 2].map(|offset| self.tokens.len() + offset)
    }

    fn tokenizer_json(&self) -> Value {
        let vocab: Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let merges: Vec<Value> =
            self.merges.iter().map(|&(left, right)| json!([self.tokens[left], self.tokens[right]])).collect();
        let added: Vec<Value> =
            CONTROLS.iter().zip(self.control_ids()).map(|(text, id)| added_token(text, Some(id))).collect();
        let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": { "type": "NFC" },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": self.split }, "behavior": "Isolated", "invert": false },
                byte_level,
            ] },
            "post_processor": byte_level, "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        })
    }

    fn tokenizer_config(&self) -> Value {
        let decoder: Map<String, Value> = CONTROLS
            .iter()
            .zip(self.control_ids())
            .map(|(text, id)| (id.to_string(), added_token(text, None)))
            .collect();
        json!({
            "added_tokens_decoder": decoder, "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": false,
            "eos_token": CONTROLS[2], "pad_token": CONTROLS[0], "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": null,
        })
    }
}

fn pairs(word: &[usize]) -> impl Iterator<Item = Pair> {
    word.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Replaces every `pair` in `word`, from the left, by `joined`.
fn join(word: &mut Vec<usize>, (left, right): Pair, joined: usize) {
    let mut at = 0;
    while at + 1 < word.len() {
        if word[at] == left && word[at + 1] == right {
            word[at] = joined;
            word.remove(at + 1);
        }
        at += 1;
    }
}

fn added_token(text: &str, id: Option<usize>) -> Value {
    let mut token = json!({
        "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
    });
    if let Some(id) = id {
        token["id"] = json!(id);
    }
    token
}

fn pretty(json: &Value) -> String {
    format!("{json:#}\n")
}
