//! Every fault a row or a file can have, and the error that tells it.

use std::fs;
use std::path::Path;

use patarm::preference::{Place, PreferenceError, ReadOptions, Reason, read};
use serde_json::{Value, json};

use super::{assistant, folder, gzip, read_text, user};

/// The field and the reason for which a row is refused.
fn fault(row: impl AsRef<[u8]>) -> (Option<String>, Reason) {
    match read_text(row, &ReadOptions::default()).unwrap_err() {
        PreferenceError::BadRow { row, .. } => (row.field, row.reason),
        other => panic!("{other}"),
    }
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

fn row(prompt: Value, chosen: Value, rejected: Value) -> Value {
    json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
}

fn each(faults: impl IntoIterator<Item = (Value, Option<String>, Reason)>) {
    for (row, field, reason) in faults {
        assert_eq!(fault(row.to_string()), (field, reason), "{row:.200}");
    }
}

#[test]
fn responses_that_are_missing_empty_equal_or_no_text_each_have_their_reason() {
    let answered = |chosen: Value, rejected: Value| row(json!("q"), chosen, rejected);
    let (g, b) = (json!("g"), json!("b"));
    let text_or_turns = Reason::WrongType { expected: "text or a list of turns" };
    each([
        (answered(g.clone(), g.clone()), None, Reason::ChosenEqualsRejected),
        (answered(json!("g "), g.clone()), None, Reason::ChosenEqualsRejected),
        (answered(json!([assistant("g")]), json!([assistant("g")])), None, Reason::ChosenEqualsRejected),
        (answered(json!(" \n"), b.clone()), some("chosen"), Reason::EmptyResponse),
        (answered(g.clone(), json!("")), some("rejected"), Reason::EmptyResponse),
        (answered(json!([]), b.clone()), some("chosen"), Reason::EmptyResponse),
        (answered(Value::Null, b.clone()), some("chosen"), Reason::Missing),
        (json!({ "prompt": "q", "chosen": "g" }), some("rejected"), Reason::Missing),
        (answered(json!(3), b.clone()), some("chosen"), text_or_turns.clone()),
        (answered(json!({}), b.clone()), some("chosen"), text_or_turns),
        (answered(json!("a\0b"), b.clone()), some("chosen"), Reason::ContainsNul),
        (answered(json!([user("g")]), b.clone()), some("chosen"), Reason::LastTurnNotAssistant),
        (
            answered(json!([assistant("g"), assistant("h")]), b.clone()),
            some("chosen"),
            Reason::SeveralTurns { turns: 2 },
        ),
    ]);
}

#[test]
fn prompts_and_their_turns_each_have_their_reason() {
    let asked = |prompt: Value| row(prompt, json!("g"), json!("b"));
    let turn = |role: &str, content: Value| asked(json!([{ "role": role, "content": content }]));
    let text = Reason::WrongType { expected: "text" };
    let label = Reason::WrongType { expected: "text or a number" };
    let stranger = Reason::UnknownRole { role: "human".into() };
    each([
        (asked(json!(" ")), some("prompt"), Reason::EmptyPrompt),
        (asked(json!([])), some("prompt"), Reason::EmptyPrompt),
        (asked(json!([assistant("a")])), some("prompt"), Reason::PromptAnswered),
        (asked(json!([{ "content": "x" }])), some("prompt[0]"), Reason::MissingRole),
        (asked(json!([user("x"), 5])), some("prompt[1]"), Reason::MissingRole),
        (asked(json!([user("x"), user("\0")])), some("prompt[1].content"), Reason::ContainsNul),
        (turn("human", json!("x")), some("prompt[0].role"), stranger),
        (turn("user", Value::Null), some("prompt[0].content"), Reason::Missing),
        (turn("user", json!([{ "type": "text" }])), some("prompt[0].content"), text),
        (asked(json!(vec![user("x"); 1025])), some("prompt"), Reason::TooManyTurns { limit: 1024 }),
        (json!({ "prompt": "q", "chosen": "g", "rejected": "b", "task": ["chat"] }), some("task"), label),
    ]);
}

#[test]
fn implicit_prompts_that_cannot_be_found_each_have_their_reason() {
    let whole = |question: &str, answer: Value| json!([user(question), answer]);
    let implicit = |chosen: Value, rejected: Value| json!({ "chosen": chosen, "rejected": rejected });
    let (good, bad) = (assistant("g"), assistant("b"));
    each([
        (implicit(json!("g"), json!("b")), None, Reason::NoCommonPrefix),
        (implicit(json!("1 + 1 = 2"), json!("1 + 1 = 2.5")), some("chosen"), Reason::EmptyResponse),
        (implicit(json!("g"), json!([bad])), None, Reason::MixedForms),
        (implicit(whole("a", good.clone()), whole("b", good.clone())), None, Reason::NoCommonPrefix),
        (
            implicit(whole("a", user("g")), whole("a", bad.clone())),
            some("chosen"),
            Reason::LastTurnNotAssistant,
        ),
        (row(json!("q"), whole("other", good), whole("other", bad)), some("prompt"), Reason::ForeignPrompt),
    ]);
}

#[test]
fn cells_and_rows_have_limits_that_hold_before_they_are_held() {
    let options = ReadOptions { max_cell_bytes: 100, skip_bad: 3, ..ReadOptions::default() };
    let row = |chosen: &str| row(json!("q"), json!(chosen), json!("b")).to_string();
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
