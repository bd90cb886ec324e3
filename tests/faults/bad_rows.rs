//! Rows 1 to 3: rows that are no pairs.

use std::fs;

use serde_json::{Value, json};

use super::program::{Ended, Home, model, patarm};

/// A sound pair of each command's kind, and short judgements.
const PAIR: &str = r#"{"prompt":"2+2?","chosen":"4","rejected":"5"}"#;
const SHORT: [&str; 2] = ["--rollout.max_new_tokens", "4"];

/// Runs each command that reads preference pairs on one file.
fn each_reader(home: &Home, data: &str, more: &[&str], check: impl Fn(&str, Ended)) {
    let (rejects, run) = (home.path("rejects.jsonl"), home.path("run"));
    let evaluate: &[&str] = &["evaluate", "--model", model(), "--data", data, "--rejects", &rejects];
    let score: &[&str] = &["score", "--model", model(), "--in", data, "--rejects", &rejects];
    let train: &[&str] = &[
        "train",
        "--model",
        model(),
        "--data",
        data,
        "--out",
        &run,
        "--rl.steps",
        "0",
        "--data.max_prompt_tokens",
        "1000",
    ];
    for command in [evaluate, score, train] {
        check(command[0], patarm(&[command, &SHORT, more].concat()));
    }
}

#[test]
fn row_01_a_broken_line_ends_every_command_before_a_weight_is_read() {
    let home = Home::new();
    // A model whose weights cannot be loaded shows that the data are looked at first.
    let broken = home.model("broken");
    fs::write(broken.join("model.safetensors"), b"cut").unwrap();
    let whole = home.model("whole");
    let lines =
        [("cut", "{\"prompt\":\"q\",\"chosen\":\"g", "cut short"), ("list", "[1]", "not a JSON object")];
    for (name, line, hint) in lines {
        let data = home.file(&format!("{name}.jsonl"), format!("{PAIR}\n{line}\n"));
        let hints = [&format!("{name}.jsonl:2") as &str, hint];
        each_reader(&home, &data, &[], |_, ended| ended.refused(3, &hints));
        for command in ["evaluate", "score"] {
            let input = if command == "score" { "--in" } else { "--data" };
            patarm(&[command, "--model", broken.to_str().unwrap(), input, &data]).refused(3, &hints);
        }
        let out = home.path("taught");
        patarm(&["sft", "--model", whole.to_str().unwrap(), "--data", &data, "--out", &out])
            .refused(3, &[&format!("{name}.jsonl:1")]);
    }
    let mut bytes = format!("{PAIR}\n").into_bytes();
    bytes.extend(b"{\"prompt\":\"\xff\"}\n");
    let data = home.file("bytes.jsonl", bytes);
    each_reader(&home, &data, &[], |_, ended| ended.refused(3, &["bytes.jsonl:2", "not UTF-8"]));
}

#[test]
fn row_01_bad_rows_that_are_allowed_are_counted_and_listed_and_one_more_is_too_many() {
    let home = Home::new();
    let data = home.file("rows.jsonl", format!("{PAIR}\n{{\n{}\n[]\n", PAIR.replace('5', "6")));
    each_reader(&home, &data, &["--skip-bad", "1"], |_, ended| ended.refused(3, &["rows.jsonl:4", "skip"]));
    each_reader(&home, &data, &["--skip-bad", "2"], |command, ended| {
        let said = ended.well();
        assert!(ended.talk.contains("2 bad rows are left out"), "{command}: {}", ended.talk);
        let list = home.path(if command == "train" { "run/rejects.jsonl" } else { "rejects.jsonl" });
        let rejects = fs::read_to_string(&list).unwrap();
        let listed: Vec<Value> = rejects.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let codes: Vec<&Value> = listed.iter().map(|reject| &reject["reason"]["code"]).collect();
        assert_eq!(codes, ["cut_short", "not_an_object"]);
        assert_eq!(listed[1]["place"], json!({ "line": 4 }));
        fs::remove_file(&list).unwrap();
        if command == "train" {
            assert_eq!([&said["data"]["rows"], &said["data"]["rejects"]], [4, 2]);
        }
    });
    let out = home.path("taught");
    let rejects = home.path("rejects.jsonl");
    let taught: [&[&str]; 2] = [
        &["sft", "--model", model(), "--data", &data, "--out", &out],
        &["--skip-bad", "9", "--rejects", &rejects],
    ];
    patarm(&taught.concat()).refused(3, &["holds no row"]);
}

#[test]
fn row_03_responses_without_a_common_beginning_are_a_row_error() {
    let home = Home::new();
    let data = home.file("rows.jsonl", "{\"chosen\":\"good\",\"rejected\":\"bad\"}\n");
    each_reader(&home, &data, &[], |_, ended| ended.refused(3, &["rows.jsonl:1", "no common beginning"]));
    let sound = home.file("sound.jsonl", "{\"chosen\":\"it is good\",\"rejected\":\"it is bad\"}\n");
    let found = patarm(&[&["evaluate", "--model", model(), "--data", &sound], &SHORT[..]].concat()).well();
    assert_eq!(found["overall"]["pairs"], 1);
}

#[test]
fn row_02_each_way_in_which_a_pair_is_none_has_a_code_of_its_own() {
    let home = Home::new();
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let pair =
        |chosen: Value, rejected: Value| json!({ "prompt": "q", "chosen": chosen, "rejected": rejected });
    let whole = |last: Value| json!([turn("user", "q"), last]);
    let rows = [
        ("chosen_equals_rejected", pair(json!("same"), json!(" same\n"))),
        ("empty_response", pair(json!("a"), json!(" "))),
        ("missing", json!({ "prompt": "q", "chosen": "a" })),
        ("missing_role", pair(json!([{ "content": "a" }]), json!("b"))),
        ("unknown_role", pair(json!([turn("human", "a")]), json!("b"))),
        ("last_turn_not_assistant", pair(whole(turn("user", "a")), whole(turn("assistant", "b")))),
        ("prompt_answered", json!({ "prompt": [turn("assistant", "q")], "chosen": "a", "rejected": "b" })),
        ("empty_prompt", json!({ "prompt": "", "chosen": "a", "rejected": "b" })),
        ("unread", pair(json!([{ "role": "assistant", "content": "a", "tool_calls": [{}] }]), json!("b"))),
        (
            "unread",
            pair(json!([{ "role": "assistant", "content": "a", "reasoning_content": "r" }]), json!("b")),
        ),
    ];
    let text: String = rows.iter().map(|(_, row)| format!("{row}\n")).collect();
    let data = home.file("rows.jsonl", format!("{PAIR}\n{text}"));
    each_reader(&home, &data, &["--skip-bad", "10"], |command, ended| {
        ended.well();
        let list = home.path(if command == "train" { "run/rejects.jsonl" } else { "rejects.jsonl" });
        let rejects = fs::read_to_string(list).unwrap();
        let codes = rejects.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let codes: Vec<String> =
            codes.map(|reject| reject["reason"]["code"].as_str().unwrap().into()).collect();
        assert_eq!(codes, rows.each_ref().map(|(code, _)| *code), "{command}");
    });
    for (code, row) in &rows {
        let data = home.file("one.jsonl", row.to_string());
        assert!(patarm(&["evaluate", "--model", model(), "--data", &data]).code == Some(3), "{code}");
    }
}

#[test]
fn row_02_fields_of_a_turn_that_say_nothing_are_no_fault_and_others_are_refused_everywhere() {
    let home = Home::new();
    let row = |extra: Value| {
        let mut turn = json!({ "role": "assistant", "content": "4" });
        turn.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "messages": [{ "role": "user", "content": "2+2?" }, turn] }).to_string()
    };
    for (name, extra, code) in [
        ("silent", json!({ "tool_calls": [], "reasoning_content": "", "name": "x" }), 0),
        ("null", json!({ "tool_calls": null, "reasoning_content": null }), 0),
        ("tools", json!({ "tool_calls": [{ "function": {} }] }), 3),
        ("thought", json!({ "reasoning_content": "because" }), 3),
    ] {
        let rows = home.file(&format!("{name}.jsonl"), row(extra));
        let ended = patarm(&["logprobs", "--model", model(), "--in", &rows]);
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.talk);
        let out = home.path(name);
        let taught = ["sft", "--model", model(), "--data", &rows, "--out", &out, "--sft.steps", "1"];
        let ended = patarm(&taught);
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.talk);
    }
}
