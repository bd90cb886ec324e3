//! The README's numbers come from the records in `benches/results/` and from nowhere else. After a new record:
//! `PATARM_WRITE_README=1 cargo test --release --test readme` writes the generated parts and the picture anew.

use std::fs;
use std::path::{Path, PathBuf};

use patarm::report::{Comparison, Estimate, RunReport, Unit};
use serde_json::Value;

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the names of runs' records begin with; `patarm bench` made all others.
const RUNS: [&str; 2] = ["demo-", "smollm2-"];

/// Records `benches/results/<run><name>.json`, in the order of their names.
fn records(run: &str) -> Vec<(String, RunReport)> {
    let entries = fs::read_dir(at("benches/results")).into_iter().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a listed entry can be read").path()).collect();
    paths.sort();
    let record = |path: &PathBuf| {
        let name = path.file_stem()?.to_str()?.strip_prefix(run)?.replace('-', " ");
        let is_json = path.extension().is_some_and(|e| e == "json");
        let text = is_json.then(|| fs::read_to_string(path).expect("a record can be read"))?;
        let report = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Some((name, report))
    };
    paths.iter().filter_map(record).collect()
}

fn fact<'a>(report: &'a RunReport, name: &str) -> &'a str {
    let fact = report.provenance.iter().find(|fact| fact.name == name);
    fact.map_or_else(
        || panic!("a record without `{name}` in its provenance is no record"),
        |fact| &fact.value,
    )
}

fn cell(estimate: Option<&Estimate>) -> String {
    let plain = |text: String| text.replace(" %", "");
    let shown = |e: &Estimate| {
        plain(format!("{} ({})", Unit::Share.show(e.value), Unit::Share.show_interval(e.low, e.high)))
    };
    estimate.map_or_else(|| "-".into(), shown)
}

fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(header.len()));
    line(header) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

fn results(what: &str, records: &[(String, RunReport)]) -> String {
    let Some((_, first)) = records.first() else { return String::new() };
    let tasks: Vec<&str> = first.accuracy.iter().skip(1).map(|curve| curve.name.as_str()).collect();
    let mut header = vec![String::new(), "overall".into()];
    header.extend(tasks.iter().map(|task| (*task).to_owned()));
    let mut rows = Vec::new();
    for (name, report) in records {
        let before: fn(&Comparison) -> Option<&Estimate> = |row| row.before.as_ref();
        for (moment, of) in [("before", before), ("after", |row| row.after.as_ref())] {
            let estimate = |label: &str| report.comparison.iter().find(|row| row.label == label).and_then(of);
            let mut row = vec![format!("{name}, {moment}"), cell(estimate("accuracy"))];
            row.extend(tasks.iter().map(|task| cell(estimate(task))));
            rows.push(row);
        }
    }
    for null in &first.nulls {
        let of = |task: &&str| null.tasks.iter().find(|(name, _)| name == task).map(|(_, estimate)| estimate);
        let mut row = vec![format!("judge: {}", null.name), cell(Some(&null.overall))];
        row.extend(tasks.iter().map(|task| cell(of(task))));
        rows.push(row);
    }
    let machine = format!("Measured at commit {} on {}.\n", fact(first, "commit"), fact(first, "machine"));
    format!(
        "Held-out accuracy of {what} in per cent, with 95 % intervals. {machine}\n{}",
        table(&header, &rows)
    )
}

fn run(records: &[(String, RunReport)]) -> String {
    let Some((_, first)) = records.first() else { return String::new() };
    format!("![Validation accuracy over training](benches/results/demo.svg)\n\n{}\n", first.summary)
}

/// Records of `patarm bench`: any other JSON file in `benches/results`.
fn benches() -> Vec<(String, Value)> {
    let entries = fs::read_dir(at("benches/results")).into_iter().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a listed entry can be read").path()).collect();
    paths.sort();
    let record = |path: &PathBuf| {
        let name = path.file_stem()?.to_str()?.to_owned();
        let is_record =
            path.extension().is_some_and(|e| e == "json") && !RUNS.iter().any(|run| name.starts_with(run));
        let text = is_record.then(|| fs::read_to_string(path).expect("a record can be read"))?;
        Some((name.replace('_', " "), serde_json::from_str(&text).expect("a record is JSON")))
    };
    paths.iter().filter_map(record).collect()
}

fn is_of_kernels((_, record): &(String, Value)) -> bool {
    record["what"] == "kernels"
}

fn speed(records: &[(String, Value)]) -> String {
    let Some((_, first)) = records.first() else { return String::new() };
    let range = |middle: &Value, factor: f64, digits: usize| {
        let at = |key: &str| factor * middle[key].as_f64().unwrap_or(f64::NAN);
        format!("{:.digits$} ({:.digits$} to {:.digits$})", at("median"), at("low"), at("high"))
    };
    let mut rows = Vec::new();
    for (name, record) in records {
        let own = [range(&record["tokens_per_second"], 1.0, 1), range(&record["of_flops"], 100.0, 0)];
        let read = range(&record["of_read"], 100.0, 0);
        let mut row = vec![name.clone(), own[0].clone(), own[1].clone(), read];
        let peers = record["peers"].as_array().into_iter().flatten();
        let ratios: Vec<String> = peers.map(|peer| range(&peer["ratio"], 1.0, 2)).collect();
        row.push(ratios.join("; "));
        rows.push(row);
    }
    let header = ["", "tokens/s", "% of FMA peak", "% of read bandwidth", "times the peer's speed"];
    format!(
        "Median (lowest to highest); every repeat of a peer runs right after one of ours. Peers, versions, load and limits are in \
         `benches/results`. {}, two threads.\n\n{}",
        first["machine"]["cpu"].as_str().unwrap_or("?"),
        table(&header.map(str::to_owned), &rows)
    )
}

/// What the limits of a kernels record were measured by.
fn limits(record: &Value) -> String {
    let rate = |limit: &str, unit: f64| record["ceilings"][limit]["rate"].as_f64().unwrap_or(f64::NAN) / unit;
    let by = match record["ceilings"]["matrix"]["by"].as_str() {
        Some("cublas_lt") => "cuBLASLt",
        Some("own_product") => "our own product, for there was no cuBLASLt",
        _ => "registers",
    };
    format!(
        "Limits of the same run: reading {:.0} GB/s, copying {:.0} GB/s, matrices {:.0} TFLOP/s ({by}).",
        rate("read", 1e9),
        rate("copy", 1e9),
        rate("matrix", 1e12)
    )
}

/// A table for each record of `patarm bench kernels`.
fn kernels(records: &[(String, Value)]) -> String {
    let one = |(name, record): &(String, Value)| {
        let number = |case: &Value, key: &str, digits: usize| {
            case[key].as_f64().map_or_else(|| "-".into(), |x| format!("{x:.digits$}"))
        };
        let row = |case: &Value| {
            let name = format!("`{}`", case["name"].as_str().unwrap_or("?"));
            let share = case["share"].as_f64();
            let said = match (share, case["bytes_needed"].as_u64()) {
                (Some(share), _) => format!("{share:.2} of {}", case["bound"].as_str().unwrap_or("?")),
                (None, bytes) => format!("not run: {:.1} GB needed", bytes.unwrap_or(0) as f64 / 1e9),
            };
            vec![name, number(case, "gigabytes_per_second", 0), number(case, "teraflops", 1), said]
        };
        let rows: Vec<Vec<String>> = record["cases"].as_array().into_iter().flatten().map(row).collect();
        let header = ["kernel", "GB/s", "TFLOP/s", "share of its limit"].map(str::to_owned);
        let device = record["device"]["name"].as_str().unwrap_or("?");
        let commit = record["program"]["commit"].as_str().unwrap_or("?");
        format!("{name}, on {device} at commit {commit}. {}\n\n{}", limits(record), table(&header, &rows))
    };
    records.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// `text` with everything between `<!-- generated: name -->` and `<!-- end -->` replaced.
fn filled(text: &str, name: &str, content: &str) -> String {
    let open = format!("<!-- generated: {name} -->\n");
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("README.md has no part `{name}`"));
    let (_, after) = rest.split_once("<!-- end -->").expect("a generated part ends");
    format!("{before}{open}{content}<!-- end -->{after}")
}

#[test]
fn the_readmes_numbers_are_those_of_the_records() {
    let [records, smollm2] = RUNS.map(records);
    let readme = fs::read_to_string(at("README.md")).expect("there is a README");
    let (of_kernels, of_work) = benches().into_iter().partition::<Vec<_>, _>(is_of_kernels);
    let mut parts = vec![
        ("run", run(&records)),
        ("results", results("the embedded default", &records)),
        ("smollm2", results("SmolLM2-135M-Instruct on real pairs", &smollm2)),
        ("speed", speed(&of_work)),
    ];
    if !of_kernels.is_empty() {
        parts.push(("kernels", kernels(&of_kernels)));
    }
    let expected = parts.iter().fold(readme, |text, (name, part)| filled(&text, name, part));
    let picture = RunReport::picture(&records);
    if std::env::var_os("PATARM_WRITE_README").is_some() {
        fs::write(at("README.md"), &expected).expect("the README can be written");
        picture.iter().for_each(|svg| {
            fs::write(at("benches/results/demo.svg"), svg).expect("the picture can be written")
        });
    }
    let readme = fs::read_to_string(at("README.md")).expect("there is a README");
    assert!(
        readme == expected,
        "README.md differs from its records; the file's first lines say how to write it anew"
    );
    if let Some(svg) = picture {
        let found = fs::read_to_string(at("benches/results/demo.svg")).unwrap_or_default();
        assert!(found == svg, "benches/results/demo.svg differs from its records");
    }
}

#[test]
fn no_record_comes_from_a_changed_tree() {
    for (name, report) in RUNS.iter().flat_map(|run| records(run)) {
        let commit = fact(&report, "commit");
        assert!(
            !commit.contains("dirty") && commit != "unknown",
            "{name}: a record names a clean commit, not {commit}"
        );
    }
}

#[test]
fn no_benchmark_comes_from_a_changed_tree() {
    for (name, record) in benches() {
        assert_eq!(record["program"]["dirty"], Value::Bool(false), "{name}");
    }
}

#[test]
fn a_generated_part_is_replaced_and_the_rest_stays() {
    let text = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n<!-- generated: y -->\n<!-- end -->\n";
    let new = filled(&filled(text, "x", "new\n"), "y", "z\n");
    assert_eq!(
        new,
        "a\n<!-- generated: x -->\nnew\n<!-- end -->\nb\n<!-- generated: y -->\nz\n<!-- end -->\n"
    );
}

#[test]
fn a_record_of_kernels_becomes_a_table_of_shares() {
    let record = serde_json::json!({
        "what": "kernels", "device": {"name": "NVIDIA X"}, "program": {"commit": "abc"},
        "ceilings": {"read": {"rate": 3.1e12}, "copy": {"rate": 3.0e12}, "matrix": {"rate": 7.9e14, "by": "cublas_lt"}},
        "cases": [
            {"name": "a/M=1", "gigabytes_per_second": 2800.4, "teraflops": 2.84, "bound": "read", "share": 0.903},
            {"name": "b", "not_run": "why", "bytes_needed": 200_000_000_000u64},
        ],
    });
    let records = [("h100".to_owned(), record)];
    assert!(is_of_kernels(&records[0]));
    let expected = "h100, on NVIDIA X at commit abc. Limits of the same run: reading 3100 GB/s, copying 3000 GB/s, matrices 790 \
                    TFLOP/s (cuBLASLt).\n\n\
                    | kernel | GB/s | TFLOP/s | share of its limit |\n|---|---|---|---|\n\
                    | `a/M=1` | 2800 | 2.8 | 0.90 of read |\n| `b` | - | - | not run: 200.0 GB needed |\n";
    assert_eq!(kernels(&records), expected);
}
