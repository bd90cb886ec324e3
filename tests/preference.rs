//! Readers of preference pairs: forms of rows, formats of files, every fault a row can have, the split.

#![allow(clippy::unwrap_used, reason = "what a helper cannot do fails its test")]

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use patarm::preference::{
    Dataset, Keys, Place, PreferenceError, PreferencePair, ReadOptions, Reason, read, split,
};
use patarm::tokenizer::{Message, Role};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder that holds one file.
fn folder(name: &str, bytes: impl AsRef<[u8]>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    dir
}

fn read_text(text: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Dataset, PreferenceError> {
    read(folder("rows.jsonl", text).path(), options)
}

fn one(row: Value) -> PreferencePair {
    read_text(row.to_string(), &ReadOptions::default()).unwrap().pairs.remove(0)
}

/// The field and the reason for which a row is refused.
fn fault(row: impl AsRef<[u8]>) -> (Option<String>, Reason) {
    match read_text(row, &ReadOptions::default()).unwrap_err() {
        PreferenceError::BadRow { row, .. } => (row.field, row.reason),
        other => panic!("{other}"),
    }
}

fn user(content: &str) -> Value {
    json!({ "role": "user", "content": content })
}

fn assistant(content: &str) -> Value {
    json!({ "role": "assistant", "content": content })
}

fn sky() -> (Vec<Message>, &'static str, &'static str) {
    (vec![Message::new(Role::User, "The sky?")], "Blue.", "Green.")
}

#[test]
fn explicit_and_implicit_text_and_turns_give_the_same_pair() {
    let (messages, chosen, rejected) = sky();
    let whole = |answer: &str| json!([user("The sky?"), assistant(answer)]);
    for row in [
        json!({ "prompt": "The sky?", "chosen": "Blue.", "rejected": "Green." }),
        json!({ "prompt": [user("The sky?")], "chosen": "Blue.", "rejected": "Green." }),
        json!({ "prompt": [user("The sky?")], "chosen": [assistant("Blue.")], "rejected": [assistant("Green.")] }),
        json!({ "prompt": "The sky?", "chosen": [assistant("Blue.")], "rejected": [assistant("Green.")] }),
        json!({ "prompt": "The sky?", "chosen": whole("Blue."), "rejected": whole("Green.") }),
        json!({ "prompt": [user("The sky?")], "chosen": whole("Blue."), "rejected": whole("Green.") }),
        json!({ "chosen": whole("Blue."), "rejected": whole("Green."), "margin": 2.5 }),
        json!({ "id": "1", "task": "chat", "source": "x", "messages": [user("The sky?")], "chosen": "Blue.", "rejected": "Green." }),
    ] {
        let pair = one(row.clone());
        let expected = (&messages, chosen, rejected, "chat");
        assert_eq!((&pair.messages, &*pair.chosen, &*pair.rejected, &*pair.task), expected, "{row}");
    }
}

#[test]
fn implicit_text_leaves_the_space_before_the_difference_to_the_responses() {
    for (chosen, rejected, prompt, left, right) in [
        ("The sky is blue.", "The sky is green.", "The sky is", " blue.", " green."),
        ("Q: é? A: yes", "Q: é? A: no", "Q: é? A:", " yes", " no"),
        ("The sky is\nblue", "The sky is\ngreen", "The sky is\n", "blue", "green"),
        ("1 + 1 = 2", "1 + 1 = 2.5", "1 + 1 = 2", "", ".5"),
    ] {
        let row = json!({ "chosen": chosen, "rejected": rejected });
        if left.is_empty() {
            assert_eq!(fault(row.to_string()), (Some("chosen".into()), Reason::EmptyResponse));
            continue;
        }
        let pair = one(row);
        assert_eq!(pair.messages, [Message::new(Role::User, prompt)]);
        assert_eq!((&*pair.chosen, &*pair.rejected), (left, right));
    }
}

#[test]
fn implicit_turns_share_the_longest_common_beginning() {
    let turns = |last| json!([{ "role": "system", "content": "S" }, user("A"), assistant("B"), user("C"), assistant(last)]);
    let pair = one(json!({ "chosen": turns("D"), "rejected": turns("E") }));
    let roles: Vec<Role> = pair.messages.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert_eq!((&*pair.chosen, &*pair.rejected), ("D", "E"));
}

#[test]
fn keys_and_default_task_are_options() {
    let keys = Keys { prompt: "query".into(), chosen: "good".into(), rejected: "bad".into() };
    let options = ReadOptions { default_task: "code".into(), keys, ..ReadOptions::default() };
    let row = json!({ "id": 7, "query": "q", "good": "g", "bad": "b", "chosen": 1, "prompt": 2 });
    let dataset = read_text(row.to_string(), &options).unwrap();
    let pair = &dataset.pairs[0];
    assert_eq!((&*pair.id, &*pair.task, &*pair.chosen, &*pair.rejected), ("7", "code", "g", "b"));
}

#[test]
fn row_without_an_id_is_named_by_its_content() {
    let pair = one(json!({ "prompt": "q", "chosen": "g", "rejected": "b" }));
    assert_eq!(pair.id, pair.content_hash().to_hex().as_str());
}

fn some(field: &str) -> Option<String> {
    Some(field.to_owned())
}

#[test]
fn every_broken_line_has_its_own_reason() {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (row, reason) in [
        (&b"{\"prompt\":\"q\",\"chosen\":\"g"[..], Reason::CutShort),
        (b"{\"prompt\":\"q\",", Reason::CutShort),
        (b"{\"prompt\":\"\xff\"}", Reason::NotUtf8),
        (b"[1]", Reason::NotAnObject),
        (b"\"text\"", Reason::NotAnObject),
        (b"null", Reason::NotAnObject),
        (b"{\"prompt\":\"\\ud800\"}", Reason::LoneSurrogate),
        (b"{\"prompt\":\"\\ud800x\"}", Reason::LoneSurrogate),
        (b"{\"prompt\":\"\\udc00\"}", Reason::LoneSurrogate),
        (deep.as_bytes(), Reason::TooDeep),
    ] {
        assert_eq!(fault(row), (None, reason), "{:.40}", String::from_utf8_lossy(row));
    }
    for row in ["{prompt: 1}", "{} {}", "{\"a\":1,}", "{\"a\":01}"] {
        assert!(matches!(fault(row), (None, Reason::NotJson { .. })), "{row}");
    }
}

#[test]
fn every_row_that_is_no_pair_has_its_own_field_and_reason() {
    let with = |prompt: Value, chosen: Value, rejected: Value| {
        let mut row = json!({ "chosen": chosen, "rejected": rejected });
        if !prompt.is_null() {
            row["prompt"] = prompt;
        }
        row
    };
    let (q, g, b) = (json!("q"), json!("g"), json!("b"));
    let text_or_turns = Reason::WrongType { expected: "text or a list of turns" };
    let null = Value::Null;
    for (row, field, reason) in [
        (with(q.clone(), g.clone(), g.clone()), None, Reason::ChosenEqualsRejected),
        (with(q.clone(), json!("g "), json!("g")), None, Reason::ChosenEqualsRejected),
        (with(q.clone(), json!(" \n"), b.clone()), some("chosen"), Reason::EmptyResponse),
        (with(q.clone(), g.clone(), json!("")), some("rejected"), Reason::EmptyResponse),
        (with(q.clone(), null.clone(), b.clone()), some("chosen"), Reason::Missing),
        (json!({ "prompt": "q", "chosen": "g" }), some("rejected"), Reason::Missing),
        (with(q.clone(), json!(3), b.clone()), some("chosen"), text_or_turns.clone()),
        (with(q.clone(), json!({}), b.clone()), some("chosen"), text_or_turns),
        (with(json!(" "), g.clone(), b.clone()), some("prompt"), Reason::EmptyPrompt),
        (with(json!([]), g.clone(), b.clone()), some("prompt"), Reason::EmptyPrompt),
        (with(json!([assistant("a")]), g.clone(), b.clone()), some("prompt"), Reason::PromptAnswered),
        (with(json!([{ "content": "x" }]), g.clone(), b.clone()), some("prompt[0]"), Reason::MissingRole),
        (with(json!([user("x"), 5]), g.clone(), b.clone()), some("prompt[1]"), Reason::MissingRole),
        (
            with(json!([{ "role": "human", "content": "x" }]), g.clone(), b.clone()),
            some("prompt[0].role"),
            Reason::UnknownRole { role: "human".into() },
        ),
        (
            with(json!([{ "role": "user", "content": null }]), g.clone(), b.clone()),
            some("prompt[0].content"),
            Reason::Missing,
        ),
        (
            with(json!([{ "role": "user", "content": [{ "type": "text" }] }]), g.clone(), b.clone()),
            some("prompt[0].content"),
            Reason::WrongType { expected: "text" },
        ),
        (with(q.clone(), json!("a\0b"), b.clone()), some("chosen"), Reason::ContainsNul),
        (with(null.clone(), g.clone(), b.clone()), None, Reason::NoCommonPrefix),
        (with(null.clone(), g.clone(), json!([assistant("b")])), None, Reason::MixedForms),
        (
            with(null.clone(), json!([user("a"), assistant("g")]), json!([user("b"), assistant("g")])),
            None,
            Reason::NoCommonPrefix,
        ),
        (
            with(null.clone(), json!([user("a"), user("g")]), json!([user("a"), assistant("b")])),
            some("chosen"),
            Reason::LastTurnNotAssistant,
        ),
        (
            with(q.clone(), json!([assistant("g"), assistant("h")]), b.clone()),
            some("chosen"),
            Reason::SeveralTurns { turns: 2 },
        ),
        (
            with(q.clone(), json!([user("other"), assistant("g")]), json!([user("other"), assistant("b")])),
            some("prompt"),
            Reason::ForeignPrompt,
        ),
        (
            with(json!(vec![user("x"); 1025]), g.clone(), b.clone()),
            some("prompt"),
            Reason::TooManyTurns { limit: 1024 },
        ),
        (
            json!({ "prompt": "q", "chosen": "g", "rejected": "b", "task": ["chat"] }),
            some("task"),
            Reason::WrongType { expected: "text or a number" },
        ),
    ] {
        assert_eq!(fault(row.to_string()), (field, reason), "{row:.200}");
    }
}

#[test]
fn cells_and_rows_have_limits_that_hold_before_they_are_held() {
    let options = ReadOptions { max_cell_bytes: 100, skip_bad: 3, ..ReadOptions::default() };
    let row = |chosen: &str| json!({ "prompt": "q", "chosen": chosen, "rejected": "b" }).to_string();
    let lines = [row(&"g".repeat(100)), row(&"g".repeat(101)), row(&"g".repeat(1000)), row("last")];
    let expected = [Reason::OversizedCell { bytes: 101, limit: 100 }, Reason::OversizedRow { limit: 400 }];
    for (name, text) in [("rows.jsonl", lines.join("\n")), ("rows.json", format!("[{}]", lines.join(",\n")))]
    {
        let dataset = read(folder(name, text).path(), &options).unwrap();
        let chosen: Vec<usize> = dataset.pairs.iter().map(|pair| pair.chosen.len()).collect();
        assert_eq!(chosen, [100, 4]);
        let found: Vec<(Place, &Reason)> =
            dataset.rejects.iter().map(|row| (row.place, &row.reason)).collect();
        assert_eq!(found, [(Place::Line(2), &expected[0]), (Place::Line(3), &expected[1])]);
    }
}

#[test]
fn bad_rows_are_listed_up_to_the_limit_and_one_more_is_an_error() {
    let good = |id: usize| json!({ "prompt": id.to_string(), "chosen": "g", "rejected": "b" }).to_string();
    let text = [good(1), "{".into(), String::new(), good(2), "[]".into(), good(3)].join("\n");
    let options = |skip_bad| ReadOptions { skip_bad, ..ReadOptions::default() };
    let dataset = read_text(&text, &options(2)).unwrap();
    assert_eq!(dataset.pairs.len(), 3);
    assert_eq!((dataset.files[0].rows, dataset.files[0].rejects), (5, 2));
    let places: Vec<Place> = dataset.rejects.iter().map(|row| row.place).collect();
    assert_eq!(places, [Place::Line(2), Place::Line(5)]);
    let message = |skip_bad| read_text(&text, &options(skip_bad)).unwrap_err().to_string();
    assert!(message(0).contains("rows.jsonl:2: the JSON is cut short"), "{}", message(0));
    assert!(message(1).contains("rows.jsonl:5: not a JSON object"), "{}", message(1));
}

#[test]
fn rejects_become_json_that_names_file_place_field_and_code() {
    let row = json!({ "prompt": "q", "chosen": "", "rejected": "b" }).to_string();
    let options = ReadOptions { skip_bad: 1, ..ReadOptions::default() };
    let dataset = read_text(row, &options).unwrap();
    let json = serde_json::to_value(&dataset.rejects[0]).unwrap();
    assert_eq!(json["place"], json!({ "line": 1 }));
    assert_eq!((&json["field"], &json["reason"]), (&json!("chosen"), &json!({ "code": "empty_response" })));
}

#[test]
fn folder_is_read_by_name_in_every_format_and_duplicates_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id: &str| json!({ "id": id, "prompt": id, "chosen": "g", "rejected": "b" }).to_string();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a.json"), format!(" [\n {},\n {} ]\n", row("a1"), row("a2"))).unwrap();
    fs::write(path("b.json"), format!("\u{feff}{}\n{}\n", row("b1"), row("a1"))).unwrap();
    gzip(&path("c.jsonl.gz"), &row("c"));
    fs::write(path("d.jsonl.zst"), zstd::encode_all(row("d").as_bytes(), 3).unwrap()).unwrap();
    fs::write(path("e.jsonl"), row("a2").replace("\"g\"", "\" g\\r\\n\"")).unwrap();
    fs::write(path("README.md"), "not data").unwrap();
    let dataset = read(dir.path(), &ReadOptions::default()).unwrap();
    let ids: Vec<&str> = dataset.pairs.iter().map(|pair| pair.id.as_str()).collect();
    assert_eq!(ids, ["a1", "a2", "b1", "c", "d"]);
    assert_eq!(dataset.duplicates, 2);
    let rows: Vec<usize> = dataset.files.iter().map(|file| file.rows).collect();
    assert_eq!(rows, [2, 2, 1, 1, 1]);
}

fn gzip(path: &Path, text: &str) {
    let mut encoder = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
}

#[test]
fn files_that_are_cut_missing_or_foreign_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.jsonl.gz");
    gzip(&path, &json!({ "prompt": "q", "chosen": "g", "rejected": "b" }).to_string());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let options = ReadOptions { skip_bad: 9, ..ReadOptions::default() };
    let error = |path: &Path| read(path, &options).unwrap_err();
    assert!(matches!(error(&path), PreferenceError::Io { .. }));
    assert!(matches!(error(&dir.path().join("none.jsonl")), PreferenceError::Io { .. }));
    assert!(matches!(error(folder("a.txt", "").path()), PreferenceError::NoData { .. }));
    let text = folder("a.txt", "");
    assert!(matches!(error(&text.path().join("a.txt")), PreferenceError::UnknownFormat { .. }));
    assert!(matches!(error(folder("a.parquet", "PAR1").path()), PreferenceError::Parquet { .. }));
}

#[test]
fn array_that_is_cut_or_followed_by_text_is_a_row_error() {
    let row = json!({ "prompt": "q", "chosen": "g", "rejected": "b" }).to_string();
    let options = ReadOptions { skip_bad: 1, ..ReadOptions::default() };
    for (text, line, cut) in [(format!("[{row},\n{row}"), 2, true), (format!("[{row}]\nx"), 2, false)] {
        let dataset = read(folder("a.json", text).path(), &options).unwrap();
        assert_eq!(dataset.pairs.len(), 1);
        assert_eq!(dataset.rejects[0].place, Place::Line(line));
        assert_eq!(dataset.rejects[0].reason == Reason::CutShort, cut);
    }
}

fn pair(prompt: &str, chosen: &str) -> PreferencePair {
    let messages = vec![Message::new(Role::User, prompt)];
    PreferencePair {
        id: format!("{prompt}/{chosen}"),
        task: "chat".into(),
        messages,
        chosen: chosen.into(),
        rejected: "b".into(),
    }
}

proptest! {
    #[test]
    fn no_prompt_is_on_both_sides_and_order_does_not_matter(
        prompts in prop::collection::vec("[a-c]{1,3} ?[a-c]?", 1..60),
        share in 0.0..1.0_f64,
    ) {
        let pairs: Vec<PreferencePair> =
            prompts.iter().enumerate().map(|(row, prompt)| pair(prompt, &row.to_string())).collect();
        let (train, held_out) = split(pairs.clone(), share);
        prop_assert_eq!(train.len() + held_out.len(), pairs.len());
        let words = |pairs: &[PreferencePair]| -> HashSet<String> {
            pairs.iter().map(|pair| pair.messages[0].content.trim().to_owned()).collect()
        };
        prop_assert!(words(&train).is_disjoint(&words(&held_out)));
        let ids = |pairs: Vec<PreferencePair>| -> HashSet<String> { pairs.into_iter().map(|pair| pair.id).collect() };
        let (again, _) = split(pairs.into_iter().rev().collect(), share);
        prop_assert_eq!(ids(again), ids(train));
    }

    #[test]
    fn lines_and_arrays_of_the_same_rows_are_read_alike(rows in prop::collection::vec(any_row(), 0..12)) {
        let options = ReadOptions { skip_bad: 99, ..ReadOptions::default() };
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let array = format!("{:#}", Value::Array(rows.clone()));
        let lines = read(folder("a.jsonl", lines).path(), &options).unwrap();
        let array = read(folder("a.json", array).path(), &options).unwrap();
        prop_assert_eq!(&lines.pairs, &array.pairs);
        prop_assert_eq!(lines.hash, array.hash);
        let reasons = |data: &Dataset| -> Vec<Reason> { data.rejects.iter().map(|row| row.reason.clone()).collect() };
        prop_assert_eq!(reasons(&lines), reasons(&array));
        prop_assert_eq!(lines.files[0].rows, rows.len());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), name in 0..3_usize) {
        let name = ["a.jsonl", "a.json", "a.parquet"][name];
        let _ = read(folder(name, bytes).path(), &ReadOptions { skip_bad: 999, ..ReadOptions::default() });
    }
}

fn any_row() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec!["q", "[", "]}", "\"", "\\", "a,b", "\n", "é", ""]);
    let value = prop_oneof![
        text.clone().prop_map(Value::from),
        text.clone().prop_map(|text| json!([user(text)])),
        (text.clone(), text).prop_map(|(a, b)| json!([user(a), assistant(b)])),
        Just(json!([[], { "x": [1, 2] }])),
        Just(Value::Null),
    ];
    (value.clone(), value.clone(), value).prop_map(
        |(prompt, chosen, rejected)| json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected }),
    )
}

#[test]
fn share_of_held_out_prompts_is_met_on_average() {
    let pairs: Vec<PreferencePair> = (0..4000).map(|row| pair(&row.to_string(), "g")).collect();
    let (_, held_out) = split(pairs.clone(), 0.1);
    // Four standard deviations of 4,000 draws at 10 %.
    assert!((held_out.len() as f64 - 400.0).abs() < 4.0 * 360.0_f64.sqrt(), "{}", held_out.len());
    assert_eq!(split(pairs.clone(), 0.0).1.len(), 0);
    assert_eq!(split(pairs, 1.0).0.len(), 0);
}

fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name)
}

#[test]
#[cfg_attr(not(shared_data), ignore = "needs ../shared/data")]
fn every_shared_file_is_read_whole() {
    let dataset = read(&shared("preference-train"), &ReadOptions::default()).unwrap();
    let rows: Vec<(&str, usize, usize)> = dataset
        .files
        .iter()
        .map(|file| (file.path.file_name().unwrap().to_str().unwrap(), file.rows, file.duplicates))
        .collect();
    let expected = [
        ("chat_dpo_en.jsonl.gz", 300, 5),
        ("chat_dpo_zh.jsonl.gz", 300, 11),
        ("chat_qa_feedback.jsonl.gz", 1899, 0),
        ("code_debugbench.jsonl.gz", 1202, 3),
        ("math_gsm8k_solutions.jsonl.gz", 1894, 0),
        ("safety_hh_harmless.jsonl.gz", 2301, 0),
    ];
    assert_eq!(rows, expected);
    assert_eq!(dataset.files.iter().map(|file| file.rows).sum::<usize>(), 7896);
    assert_eq!(dataset.pairs.len() + dataset.duplicates, 7896);
    let tasks = BTreeMap::from([("chat", 2483), ("code", 1199), ("math", 1894), ("safety", 2301)]);
    assert_eq!(dataset.tasks(), tasks);
}
