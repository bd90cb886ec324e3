//! The conformance table of `tests/faults/table.md`: what holds when data, models, disks or people fail. Tests are named after
//! their row, `row_07_...`, and are counted against it here.

#![allow(clippy::unwrap_used, reason = "what a helper cannot do fails its test")]

#[path = "faults/bad_model.rs"]
mod bad_model;
#[path = "faults/bad_rows.rs"]
mod bad_rows;
#[path = "faults/broken_disk.rs"]
mod broken_disk;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/diverged.rs"]
mod diverged;
#[path = "faults/gpu.rs"]
mod gpu;
#[path = "faults/interrupted.rs"]
mod interrupted;
#[path = "faults/kept.rs"]
mod kept;
#[path = "faults/limits.rs"]
mod limits;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/program.rs"]
mod program;
#[path = "faults/prompts.rs"]
mod prompts;
#[path = "faults/resume.rs"]
mod resume;
#[path = "faults/settings.rs"]
mod settings;
#[path = "faults/sinks.rs"]
mod sinks;
#[path = "faults/small_run.rs"]
mod small_run;
#[path = "faults/stopped.rs"]
mod stopped;
#[path = "faults/supervised.rs"]
mod supervised;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Number of a row of the table.
type Row = u32;

/// Row -> the files whose tests hold it, by their stems; none where it is not held yet.
fn table(text: &str) -> BTreeMap<Row, Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().replace("\\|", "/");
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = text.lines().filter(|line| line.starts_with('|')).map(cells);
    let numbered = rows.filter_map(|cells| Some((cells[0].parse().ok()?, cells)));
    let held = |cells: Vec<String>| match cells.last() {
        Some(cell) if !cell.starts_with("not yet:") => cell.split(' ').map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    numbered.map(|(row, cells)| (row, held(cells))).collect()
}

/// Every test that runs and is named after a row, with the stem of its file.
fn tests() -> BTreeSet<(Row, String)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            found.extend(rows_of(&text).into_iter().map(|row| (row, stem.clone())));
        }
    }
    found
}

/// Rows that the tests of one file name. Ignored tests hold nothing.
fn rows_of(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut attributes = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push_str(line);
            continue;
        }
        let name = line.strip_prefix("fn row_").and_then(|rest| rest.split_once('_'));
        if let Some((number, _)) = name
            && attributes.contains("#[test]")
            && !attributes.contains("ignore")
        {
            rows.push(number.parse().unwrap_or_else(|_| panic!("`{line}` names no row")));
        }
        attributes.clear();
    }
    rows
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults")
}

fn our_table() -> BTreeMap<Row, Vec<String>> {
    table(&fs::read_to_string(folder().join("table.md")).unwrap())
}

#[test]
fn every_row_that_is_held_has_a_test_and_every_test_has_its_row() {
    let (table, tests) = (our_table(), tests());
    let promised: BTreeSet<(Row, String)> =
        table.iter().flat_map(|(row, files)| files.iter().map(|file| (*row, file.clone()))).collect();
    let missing: Vec<_> = promised.difference(&tests).collect();
    let unknown: Vec<_> = tests.difference(&promised).collect();
    assert!(missing.is_empty(), "the table promises, but no test holds: {missing:?}");
    assert!(unknown.is_empty(), "tests whose row does not name their file as what holds it: {unknown:?}");
}

#[test]
fn rows_are_numbered_without_a_gap() {
    let rows: Vec<Row> = our_table().into_keys().collect();
    assert_eq!(rows, (1..=34).collect::<Vec<Row>>());
}

#[test]
#[cfg_attr(not(shared_faults), ignore = "needs ../shared/faults.md")]
fn the_table_has_the_rows_that_were_asked_for() {
    let asked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/faults.md");
    let asked = table(&fs::read_to_string(asked).unwrap());
    assert!(asked.len() > 30);
    assert_eq!(our_table().into_keys().collect::<Vec<_>>(), asked.into_keys().collect::<Vec<_>>());
}

#[test]
fn only_tests_that_run_are_counted() {
    let text = "#[test]\nfn row_07_a() {}\nfn row_08_b() {}\n#[test]\n#[ignore = \"x\"]\nfn row_09_c() {}\n\
                    #[cfg(unix)]\n    #[test]\n    fn row_10_d(x in 0..3) {}\n#[test]\nfn other() {}\n";
    assert_eq!(rows_of(text), [7, 10]);
    let table = table("| row | x |\n|---|---|\n| 1 | `a\\|b` | disk resume |\n| 2 | b | not yet: c |\n");
    assert_eq!(table[&1], ["disk", "resume"]);
    assert!(table[&2].is_empty());
}
