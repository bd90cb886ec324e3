use std::io;
use std::path::Path;

use patarm::report::{JsonLines, MetricNames, MetricsLog, Notice, Origin, Row, Sink, Start, read_rows};

fn row(step: u64) -> Row {
    Row::new(step, "rl", 100.0 + step as f64).with("reward", step as f64 / 8.0)
}

fn steps(path: &Path) -> Vec<u64> {
    read_rows(path).unwrap().iter().map(|row| row.step).collect()
}

#[test]
fn rows_come_back_as_they_were_written_even_where_they_are_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut lines = JsonLines::open(&path, Start::Fresh).unwrap();
    let first = row(1).with("third", 1.0 / 3.0).with("up", f64::INFINITY).with("down", f64::NEG_INFINITY);
    lines.row(&first).unwrap();
    lines.row(&row(2).with("loss", f64::NAN)).unwrap();
    let found = read_rows(&path).unwrap();
    assert_eq!(found[0], first);
    assert!(found[1].values[1].1.is_nan());
    let text = std::fs::read_to_string(&path).unwrap();
    let object: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(object["reward"], 0.125);
    assert_eq!(object["step"], 1);
}

#[test]
fn a_resumed_log_holds_no_step_twice_and_no_half_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut lines = JsonLines::open(&path, Start::Fresh).unwrap();
    (1..=5).for_each(|step| lines.row(&row(step)).unwrap());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 7]).unwrap();
    assert_eq!(steps(&path), [1, 2, 3, 4], "a cut last line is no row");

    let mut lines = JsonLines::open(&path, Start::After(3)).unwrap();
    (4..=6).for_each(|step| lines.row(&row(step)).unwrap());
    assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6]);
    assert!(std::fs::read(&path).unwrap().starts_with(&whole), "the rows equal those of an unbroken run");
    JsonLines::open(&path, Start::After(6)).unwrap();
    assert_eq!(steps(&path).len(), 6, "nothing is cut where nothing is too late");
    JsonLines::open(&path, Start::Fresh).unwrap();
    assert_eq!(steps(&path), [0; 0]);
}

#[test]
fn a_broken_row_in_the_middle_is_an_error_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    std::fs::write(&path, "{\"step\":1,\"phase\":\"rl\",\"time\":2.0}\n{\"step\":\"x\"}\n").unwrap();
    let error = read_rows(&path).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl:2:"), "{error}");
}

/// Fails while `broken` says so, as a full disk does.
struct Flaky {
    calls: u32,
    broken: std::ops::Range<u32>,
}

impl Sink for Flaky {
    fn row(&mut self, _row: &Row) -> io::Result<()> {
        self.calls += 1;
        if self.broken.contains(&self.calls) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[test]
fn a_failing_sink_warns_once_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin { host: "here".into(), pid: 1, time: 1.0 };
    let mut log = MetricsLog::open(folder.path(), &origin, Start::Fresh, MetricNames::Trl).unwrap();
    log.add("flaky", Flaky { calls: 0, broken: 2..5 });
    let notices: Vec<Vec<Notice>> = (1..=6).map(|step| log.row(&row(step))).collect();
    assert!(matches!(&notices[1][..], [Notice::Degraded { sink, .. }] if sink == "flaky"));
    assert_eq!(notices[4], [Notice::Recovered { sink: "flaky".into(), lost: 3 }]);
    assert!([0, 2, 3, 5].iter().all(|&i| notices[i].is_empty()));
    assert_eq!(steps(&folder.path().join("metrics.jsonl")), [1, 2, 3, 4, 5, 6]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_degrades_the_log_and_does_not_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("metrics.jsonl")).unwrap();
    let origin = Origin { host: "here".into(), pid: 1, time: 1.0 };
    let mut log = MetricsLog::open(folder.path(), &origin, Start::Fresh, MetricNames::Trl).unwrap();
    let notices = log.row(&row(1));
    assert!(
        matches!(&notices[..], [Notice::Degraded { sink, .. }] if sink == "metrics.jsonl"),
        "{notices:?}"
    );
    assert!(log.row(&row(2)).is_empty());
    assert_eq!(log.degraded(), ["metrics.jsonl"]);
}

#[test]
fn a_run_folder_that_cannot_be_written_is_an_error_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let origin = Origin { host: "here".into(), pid: 1, time: 1.0 };
    let error = MetricsLog::open(&missing, &origin, Start::Fresh, MetricNames::Trl)
        .err()
        .expect("the folder is missing");
    assert!(error.to_string().contains("missing/metrics.jsonl"), "{error}");
}

#[test]
fn tensorboard_gets_the_names_that_were_asked_for_and_the_record_keeps_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin { host: "here".into(), pid: 1, time: 1.0 };
    let mut log = MetricsLog::open(folder.path(), &origin, Start::Fresh, MetricNames::Verl).unwrap();
    let own = Row::new(1, "rl", 1.0).with("reward", 0.5).with("learning_rate", 0.25).with("score/mean", 6.0);
    assert!(log.row(&own).is_empty());
    let shown = std::fs::read_dir(folder.path().join("tensorboard")).unwrap().next().unwrap().unwrap();
    let shown = std::fs::read(shown.path()).unwrap();
    let holds = |name: &str| shown.windows(name.len()).any(|window| window == name.as_bytes());
    for (theirs, ours) in [("critic/score/mean", "reward"), ("actor/lr", "learning_rate")] {
        assert!(holds(theirs) && !holds(ours), "{theirs}");
    }
    assert!(holds("score/mean"), "what verl has no name for keeps its own");
    assert_eq!(read_rows(&folder.path().join("metrics.jsonl")).unwrap(), [own]);
}
