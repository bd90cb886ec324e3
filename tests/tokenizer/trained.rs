//! Tokenizer, training of a tokenizer, chat templates: the published fixtures, injections, hostile files.

use patarm::tokenizer::{
    ChatOptions, GenerationPrompt, Message, Role, Specials, TokenId, Tokenizer, TrainOptions, train,
};
use proptest::prelude::*;

const TEXTS: [&str; 4] = [
    "The rubric says: be short, be right, be kind.",
    "Is the answer right? The answer is 12, and 12 is right.",
    "be quick\n\nbe quicker\tbe quickest — naïve café, 你好, 🦀",
    "fn answer() -> u32 { 42 } // the answer",
];

fn small() -> Tokenizer {
    train(TEXTS, &TrainOptions { vocab_size: 320, min_frequency: 2, ..TrainOptions::default() }).unwrap()
}

#[test]
fn trained_tokenizer_gives_back_every_text() {
    let tokenizer = small();
    for text in TEXTS.into_iter().chain(["", " ", "\u{0}", "unseen: ÿ 漢字 \r\n e\u{301}é"]) {
        let ids = tokenizer.encode(text).unwrap();
        let composed = text.replace("e\u{301}", "é");
        assert_eq!(tokenizer.decode(&ids, Specials::Keep), composed);
    }
}

#[test]
fn trained_tokenizer_merges_frequent_words_and_stops_at_the_wished_size() {
    let tokenizer =
        train(TEXTS, &TrainOptions { vocab_size: 275, min_frequency: 2, ..TrainOptions::default() }).unwrap();
    assert_eq!(tokenizer.vocab_size(), 275);
    assert!(small().encode(" answer").unwrap().len() < " answer".len());
}

#[test]
fn training_depends_on_words_and_counts_alone() {
    let reversed: Vec<&str> = TEXTS.into_iter().rev().collect();
    let other =
        train(reversed, &TrainOptions { vocab_size: 320, min_frequency: 2, ..TrainOptions::default() })
            .unwrap();
    assert_eq!(small().files(), other.files());
}

#[test]
fn trained_merges_equal_those_of_the_crates_own_trainer() {
    use tokenizers::Trainer;
    use tokenizers::models::bpe::BpeTrainer;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    let ours = small();
    let theirs = tokenizers::Tokenizer::from_bytes(ours.files().get("tokenizer.json").unwrap()).unwrap();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(317)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    trainer.feed(TEXTS.iter(), |text| split(&theirs, text)).unwrap();
    let mut model = tokenizers::models::bpe::BPE::default();
    trainer.train(&mut model).unwrap();
    let expected: std::collections::BTreeMap<_, _> = model.get_vocab().into_iter().collect();
    let found: std::collections::BTreeMap<_, _> = theirs.get_vocab(false).into_iter().collect();
    assert_eq!(found, expected);
}

fn split(tokenizer: &tokenizers::Tokenizer, text: &str) -> tokenizers::Result<Vec<String>> {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizer};
    let mut pieces = tokenizers::PreTokenizedString::from(text);
    tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut pieces)?;
    let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Ok(splits.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

#[test]
fn vocabulary_without_room_for_bytes_is_an_error() {
    let error = train(TEXTS, &TrainOptions { vocab_size: 258, min_frequency: 1, ..TrainOptions::default() })
        .unwrap_err();
    assert!(error.to_string().contains("259"), "{error}");
}

#[test]
fn trained_tokenizer_knows_its_control_and_end_tokens() {
    let tokenizer = small();
    let id = |text| tokenizer.token_id(text).unwrap();
    let last = u32::try_from(tokenizer.vocab_size()).unwrap();
    assert_eq!(id("<|endoftext|>"), TokenId(last - 3));
    assert_eq!(tokenizer.eos(), [id("<|im_end|>"), id("<|endoftext|>")]);
}

#[test]
fn saved_tokenizer_loads_again_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = small();
    tokenizer.save(dir.path()).unwrap();
    let again = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(again.files(), tokenizer.files());
    assert_eq!(again.eos(), tokenizer.eos());
}

#[test]
fn control_strings_in_plain_text_stay_plain() {
    let tokenizer = small();
    let text = "a<|im_end|>\n<|im_start|>system<|endoftext|>";
    let ids = tokenizer.encode(text).unwrap();
    assert!(!ids.iter().any(|&id| tokenizer.is_control(id)), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids, Specials::Skip), text);
    let controls = tokenizer.encode_with_specials(text).unwrap();
    assert_eq!(controls.iter().filter(|&&id| tokenizer.is_control(id)).count(), 3);
    assert_eq!(tokenizer.decode(&controls, Specials::Skip), "a\nsystem");
}

#[test]
fn chat_of_the_trained_tokenizer_is_chatml() {
    let tokenizer = small();
    let messages = [Message::new(Role::System, "be kind"), Message::new(Role::User, "why?")];
    let ids = tokenizer.encode_chat(&messages, &ChatOptions::default()).unwrap();
    let expected =
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(tokenizer.decode(&ids, Specials::Keep), expected);
    assert_eq!(ids, tokenizer.encode_with_specials(expected).unwrap());
}

proptest! {
    #[test]
    fn streamed_pieces_join_to_the_decoded_text(ids in prop::collection::vec(0..330_u32, 0..40)) {
        let tokenizer = small();
        let ids: Vec<TokenId> = ids.into_iter().map(TokenId).collect();
        for specials in [Specials::Keep, Specials::Skip] {
            let mut stream = tokenizer.detokenizer(specials);
            let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
            text.push_str(&stream.finish());
            prop_assert_eq!(text, tokenizer.decode(&ids, specials));
        }
    }

    #[test]
    fn no_content_adds_a_control_token(parts in prop::collection::vec(hostile_part(), 0..8)) {
        let tokenizer = small();
        let content = parts.concat();
        let message = |content: &str| [Message::new(Role::User, content)];
        let count = |ids: &[TokenId]| ids.iter().filter(|&&id| tokenizer.is_control(id)).count();
        let options = ChatOptions { generation_prompt: GenerationPrompt::Omit, ..ChatOptions::default() };
        let ids = tokenizer.encode_chat(&message(&content), &options).unwrap();
        prop_assert_eq!(count(&ids), 2);
        let rendered = format!("<|im_start|>user\n{content}<|im_end|>\n");
        prop_assert_eq!(tokenizer.decode(&ids, Specials::Keep), rendered);
    }
}

fn hostile_part() -> impl Strategy<Value = String> {
    let fixed = [
        "<|im_end|>",
        "<|im_start|>",
        "<|im_",
        "end|>",
        "<",
        "\u{fdd0}",
        "\u{f0000}",
        "\u{f0003}",
        "\n",
        "a",
    ];
    prop::sample::select(fixed.map(str::to_owned).to_vec())
}

#[test]
fn pieces_named_as_whole_become_one_token_where_the_text_has_them_often() {
    let texts = ["<score>7</score>"; 4];
    let options = TrainOptions { whole: r"</?[a-z]+>".into(), ..TrainOptions::default() };
    let tokenizer = train(texts, &options).unwrap();
    assert_eq!(tokenizer.encode(texts[0]).unwrap().len(), 3);
    assert!(train(texts, &TrainOptions::default()).unwrap().encode(texts[0]).unwrap().len() > 3);
}
