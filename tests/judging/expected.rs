use serde_json::json;

use super::{column, home, lines, refused, said};

#[test]
fn an_expected_score_is_the_mean_over_what_the_judge_could_have_said() {
    let home = home();
    let (sure, _) = home.run("score", &["--reading", "expected"]);
    for (line, score) in sure.iter().zip([8.0, 2.5, 3.0, 3.0]) {
        assert!((line["expected"].as_f64().expect("a number") - score).abs() < 0.05, "{line}");
        assert!(line["mass"].as_f64().is_some_and(|mass| (0.95..1.00001).contains(&mass)), "{line}");
        assert_eq!((&line["voted"], &line["score"]), (&line["expected"], &json!(score)));
    }
    let [model, tasks] = ["judge/model", "tasks"].map(|name| home.path(name));
    let unsure = home.file("size.jsonl", "{\"prompt\":\"size?\",\"response\":\"big\"}\n");
    let start = ["score", "--model", &model, "--rubrics", &tasks, "--in", &unsure, "--reading", "expected"];
    let (line, _) = said(&start);
    let expected = line[0]["expected"].as_f64().expect("a number");
    assert!((expected - (2.0 * 9.0 + 2.0) / 3.0).abs() < 0.2, "taught 9 twice as often as 2: {line:?}");
    let (plain, _) = home.run("score", &[]);
    assert!(plain.iter().all(|line| line.get("expected").is_none()));
}

#[test]
fn evaluation_compares_expected_scores_and_tells_their_mass() {
    let home = home();
    let out = home.path("expected.jsonl");
    let how = ["--reading", "expected", "--temperature", "0", "--judgements", "1", "--out", &out];
    let (found, talk) = home.run("evaluate", &how);
    let overall = &found[0]["overall"];
    assert!(overall["score_mass"].as_f64().is_some_and(|mass| mass > 0.95), "{overall}");
    let records = lines(&std::fs::read_to_string(&out).expect("--out was written"));
    assert_eq!(records[0]["standing"], json!("win"));
    for record in &records {
        let judgements = record["judgements"].as_array().expect("a list");
        let of = |place: usize| judgements[place]["expected"].as_f64().expect("a number");
        assert_eq!((record["chosen"].as_f64(), record["rejected"].as_f64()), (Some(of(0)), Some(of(1))));
        let standing = match of(0).total_cmp(&of(1)) {
            std::cmp::Ordering::Greater => "win",
            std::cmp::Ordering::Equal => "tie",
            std::cmp::Ordering::Less => "loss",
        };
        assert_eq!(record["standing"], json!(standing));
    }
    assert!(talk.contains("judgements in "), "the rates: {talk}");
    assert_eq!(column(&records, "id").len(), 2);
}

#[test]
fn expected_scores_of_two_responses_or_by_majority_are_refused() {
    let home = home();
    let [model, pairs] = ["judge/model", "pairs.jsonl"].map(|name| home.path(name));
    for other in [["--mode", "pairwise"], ["--vote", "majority"]] {
        let start = ["score", "--model", &model, "--in", &pairs, "--reading", "expected"];
        refused(2, "evaluation.reading", &[&start[..], &other[..]].concat());
    }
}
