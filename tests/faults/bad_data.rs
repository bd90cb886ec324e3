//! Rows 1 to 8: data and settings that cannot be used.

use super::program::{Home, model, patarm};

#[test]
fn row_03_responses_without_a_common_beginning_are_a_row_error() {
    let home = Home::new();
    let rows = "{\"chosen\":\"good\",\"rejected\":\"bad\"}\n";
    let data = home.file("rows.jsonl", rows);
    let hints = ["rows.jsonl:1", "no common beginning"];
    patarm(&["evaluate", "--model", model(), "--data", &data]).refused(3, &hints);
    patarm(&["train", "--model", model(), "--data", &data, "--out", &home.path("run")]).refused(3, &hints);
    patarm(&["score", "--model", model(), "--in", &data]).refused(3, &hints);
    let sound = home.file("sound.jsonl", "{\"chosen\":\"it is good\",\"rejected\":\"it is bad\"}\n");
    let short = ["--rollout.max_new_tokens", "4"];
    let found = patarm(&[&["evaluate", "--model", model(), "--data", &sound], &short[..]].concat()).well();
    assert_eq!(found["overall"]["pairs"], 1);
}
