use std::collections::BTreeMap;

use patarm::report::{
    AccuracyCurve, AccuracyPoint, Answer, Better, Comparison, Fact, Headline, JsonLines, Judgement,
    NullJudge, Outcome, Row, RunReport, Sample, ScoreHistory, ScoreSnapshot, Sink, Start, Unit, wilson,
};

/// What a judgement could hold to break out of the page.
const HOSTILE: &str =
    "</pre></script><script>alert('x')</script><img src=x onerror=\"alert(1)\"> {{ style }} & 'end";

fn accuracy(name: &str) -> AccuracyCurve {
    let point = |step: u64| AccuracyPoint { step, accuracy: wilson(20.0 + step as f64, 60).unwrap() };
    AccuracyCurve { name: name.into(), points: [0, 10, 20].map(point).to_vec() }
}

fn answer(text: &str) -> Answer {
    let judged = |outcome| Some(Judgement { text: text.into(), outcome });
    Answer {
        text: text.into(),
        before: judged(Outcome::Failure(text.into())),
        after: judged(Outcome::Score(6.5)),
    }
}

fn rows(text: &str, count: u64) -> Vec<Row> {
    let value = |step: u64| if step == 7 { f64::NAN } else { step as f64 };
    (1..=count)
        .map(|s| Row::new(s, if s < 5 { "sft" } else { text }, s as f64).with("kl", value(s)).with(text, 1.0))
        .collect()
}

/// A report that has every part, with `text` wherever a text can stand.
fn report_of(text: &str) -> RunReport {
    let snapshot = |step| ScoreSnapshot { step, chosen: vec![1, step], rejected: vec![step, 0] };
    let share = wilson(3.0, 10).unwrap();
    RunReport {
        title: text.into(),
        summary: text.into(),
        alarms: vec![Fact::new(text, text)],
        headline: vec![Headline {
            label: text.into(),
            value: 0.5,
            unit: Unit::Share,
            interval: Some((0.4, 0.6)),
            note: text.into(),
        }],
        accuracy: vec![accuracy("overall"), accuracy(text)],
        nulls: vec![NullJudge { name: text.into(), overall: share, tasks: vec![(text.into(), share)] }],
        comparison: vec![Comparison {
            label: text.into(),
            unit: Unit::Share,
            better: Better::Lower,
            before: Some(share),
            after: None,
            change: Some(share),
        }],
        scores: ScoreHistory { edges: vec![0.5, 5.5, 10.5], snapshots: [0, 10, 20].map(snapshot).to_vec() },
        samples: vec![Sample {
            task: text.into(),
            prompt: text.into(),
            chosen: answer(text),
            rejected: answer(text),
        }],
        config: text.into(),
        provenance: vec![Fact::new(text, text)],
        rows: rows(text, 12),
    }
}

fn report() -> RunReport {
    report_of(HOSTILE)
}

/// Names of all start tags, each counted; panics where tags do not nest.
fn tags(page: &str) -> BTreeMap<&str, usize> {
    let void = ["meta", "line", "rect", "circle", "path", "polygon"];
    let (mut open, mut found, mut rest) = (Vec::new(), BTreeMap::new(), page);
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag ends");
        let name = rest[..end].split([' ', '/', '\n']).find(|part| !part.is_empty()).unwrap();
        if rest.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "before {}", &rest[..rest.len().min(80)]);
        } else if !rest.starts_with('!') {
            *found.entry(name).or_insert(0) += 1;
            if !void.contains(&name) {
                open.push(name);
            }
            if let "script" | "style" = name {
                rest = &rest[rest.find(&format!("</{name}>")).expect("it is closed")..];
                continue;
            }
        }
        rest = &rest[end + 1..];
    }
    assert_eq!(open, [""; 0]);
    found
}

#[test]
fn no_text_of_a_run_becomes_markup_or_template() {
    let page = report().page();
    let tags = tags(&page);
    assert_eq!((tags["script"], tags["style"], tags.get("img")), (1, 1, None));
    assert!(!page.contains("<img") && !page.contains("alert('x')"), "quotes in texts are escaped");
    assert!(page.contains("&lt;img src=x onerror="));
    assert!(page.contains("{{ style }}"), "a text is data, not a template");
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let page = report_of("plain").page().replace("http://www.w3.org/2000/svg", "");
    for mark in ["http:", "https:", "//cdn", "@import", "url(", "src=", "href=", "fetch("] {
        assert!(!page.contains(mark), "{mark}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_scripts_password_depends_on_the_whole_content() {
    let nonce = |page: &str| page.split("nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let first = report();
    let second = RunReport { config: "other".into(), ..first.clone() };
    let page = first.page();
    assert_ne!(nonce(&page), nonce(&second.page()));
    assert!(page.contains(&format!("<script nonce=\"{}\">", nonce(&page))));
}

#[test]
fn what_the_pointer_reads_is_json_and_keeps_values_that_are_not_finite() {
    let page = report().page();
    let mut seen = false;
    for part in page.split("data-readings=\"").skip(1) {
        let text = part.split('"').next().unwrap();
        let plain = [("&quot;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")]
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let readings: serde_json::Value = serde_json::from_str(&plain).unwrap();
        let at = readings["at"].as_array().unwrap();
        assert!(!at.is_empty());
        seen |= at.iter().any(|entry| entry[1] == 7 && entry[2][0] == serde_json::json!(["NaN", null]));
    }
    assert!(seen, "the lost value of step 7 can be read");
    assert!(page.contains("class=\"broken\""));
}

#[test]
fn a_run_folder_gives_back_the_page_it_was_saved_with() {
    let folder = tempfile::tempdir().unwrap();
    let report = RunReport { rows: rows(HOSTILE, 6), ..report() };
    let mut lines = JsonLines::open(&folder.path().join("metrics.jsonl"), Start::Fresh).unwrap();
    report.rows.iter().for_each(|row| lines.row(row).unwrap());
    report.save(folder.path()).unwrap();
    let again = RunReport::load(folder.path()).unwrap();
    assert_eq!(again, report);
    assert_eq!(std::fs::read_to_string(folder.path().join("report.html")).unwrap(), again.page());
}

#[test]
fn an_unknown_key_in_a_saved_report_is_an_error_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    report().save(folder.path()).unwrap();
    let path = folder.path().join("report.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"title\"", "\"tittle\"", 1)).unwrap();
    let error = RunReport::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("report.json") && error.contains("tittle"), "{error}");
}

#[test]
fn a_run_of_which_nothing_is_known_yet_still_has_a_page() {
    tags(&RunReport::default().page());
    let one = RunReport {
        rows: rows(HOSTILE, 1),
        scores: ScoreHistory { edges: vec![1.0], snapshots: vec![] },
        ..report()
    };
    tags(&one.page());
}

#[test]
fn a_long_run_makes_no_long_page() {
    let page = RunReport { rows: rows(HOSTILE, 50_000), ..report() }.page();
    assert!(page.len() < 400_000, "{} bytes", page.len());
}
