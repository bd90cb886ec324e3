//! What is read: the forms of a row, the formats of a file, duplicates, the split.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use patarm::preference::{Dataset, Keys, PreferencePair, ReadOptions, Reason, read, split};
use patarm::tokenizer::{Message, Role};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{assistant, folder, gzip, read_text, user};

fn one(row: Value) -> PreferencePair {
    read_text(row.to_string(), &ReadOptions::default()).unwrap().pairs.remove(0)
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
    // What `trl.data_utils.extract_prompt` of TRL 1.16.0 gives.
    for (chosen, rejected, prompt, left, right) in [
        ("The sky is blue.", "The sky is green.", "The sky is", " blue.", " green."),
        ("Q: é? A: yes", "Q: é? A: no", "Q: é? A:", " yes", " no"),
        ("The sky is\nblue", "The sky is\ngreen", "The sky is\n", "blue", "green"),
        ("a  b", "a  c", "a ", " b", " c"),
        ("Human: x Assistant: I am", "Human: x Assistant: It is", "Human: x Assistant: I", " am", "t is"),
    ] {
        let pair = one(json!({ "chosen": chosen, "rejected": rejected }));
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
