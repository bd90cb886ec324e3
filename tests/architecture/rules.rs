//! Rules on one file's text, each a function from the file to what breaks it.

use crate::source::{Token, follows, tokens};

/// One source file: its path from the repository's root, with `/`, and its text.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A broken rule: where, and the sentence.
pub(crate) type Breach = String;

/// The longest a file may be.
const LONGEST: usize = 400;

/// Names that say nothing about what is inside.
const NAMELESS: [&str; 5] = ["utils", "common", "helpers", "core", "misc"];

/// Every rule, over one file.
pub(crate) fn breaches(file: &File) -> Vec<Breach> {
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > LONGEST {
        found.push(format!("{}: {lines} lines, {LONGEST} is the most", file.path));
    }
    for part in file.path.split('/').map(|part| part.split('.').next().unwrap_or(part)) {
        if NAMELESS.contains(&part) {
            found.push(format!("{}: `{part}` does not say what is inside", file.path));
        }
    }
    found.extend(marks(file));
    if file.path.ends_with(".rs") {
        let tokens = tokens(&file.text);
        for at in 0..tokens.len() {
            let broken = token_rules(&file.path, &tokens, at);
            found.extend(broken.map(|why| format!("{}:{}: {why}", file.path, tokens[at].line)));
        }
    }
    found
}

/// Words that have no place in any text of the tree. Assembled here so that this file does not hold them.
fn marks(file: &File) -> Vec<Breach> {
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let absolute = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        if let Some(mark) = unfinished.iter().chain(&absolute).find(|mark| line.contains(**mark)) {
            found.push(format!("{}:{}: `{mark}`", file.path, number + 1));
        }
    }
    found
}

fn token_rules(path: &str, tokens: &[Token], at: usize) -> Option<&'static str> {
    let is = |texts: &[&str]| follows(tokens, at, texts);
    let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    let word = tokens[at].text.as_str();
    if word == "ignore" && in_attribute(tokens, at) && !follows(tokens, at + 1, &["="]) {
        return Some("an ignored test says why: #[ignore = \"needs ...\"]");
    }
    if word == "unsafe" && !below(&["src/device/", "kernels/on_cpu/"]) {
        return Some("`unsafe` lives in src/device");
    }
    if !path.starts_with("src/") {
        return None;
    }
    let prints = matches!(word, "println" | "print" | "eprintln" | "eprint" | "dbg") && is(&[word, "!"])
        || is(&["io", "::", "stdout"])
        || is(&["io", "::", "stderr"]);
    if prints && !below(&["src/cli/", "src/main.rs", "src/trainer/metrics.rs"]) {
        return Some("only src/cli and src/trainer/metrics.rs print");
    }
    let reads_time = is(&["Instant", "::", "now"]) || is(&["SystemTime", "::", "now"]);
    if reads_time && !below(&["src/cli/", "src/bench/"]) {
        return Some("time enters as a value from src/cli");
    }
    if is(&["env", "::", "var"]) && !below(&["src/cli/"]) {
        return Some("nothing reads the environment but src/cli");
    }
    if matches!(word, "thread_rng" | "from_entropy" | "from_os_rng") || is(&["rand", "::", "rng", "("]) {
        return Some("every random number derives from a named seed");
    }
    let sizes = matches!(word, "too_many_lines" | "too_many_arguments");
    (sizes && in_attribute(tokens, at)).then_some("the lints on size have no exceptions")
}

/// Whether the token at `at` stands between `#[` (or `#![`) and its `]`.
fn in_attribute(tokens: &[Token], at: usize) -> bool {
    let mut level = 0;
    for i in (0..at).rev() {
        match tokens[i].text.as_str() {
            "]" => level += 1,
            "[" if level > 0 => level -= 1,
            "[" => return i > 0 && matches!(tokens[i - 1].text.as_str(), "#" | "!"),
            ";" | "{" | "}" => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
fn broken(path: &str, text: &str) -> usize {
    breaches(&File { path: path.into(), text: text.into() }).len()
}

#[test]
fn long_and_nameless_files_are_refused() {
    assert_eq!(broken("src/a/b.rs", &"\n".repeat(400)), 0);
    assert_eq!(broken("src/a/b.rs", &"\n".repeat(401)), 1);
    assert_eq!(broken("src/utils/b.rs", ""), 1);
    assert_eq!(broken("tests/common.rs", ""), 1);
}

#[test]
fn an_ignored_test_without_a_reason_is_refused() {
    assert_eq!(broken("tests/a.rs", "#[ignore] fn f() {}"), 1);
    assert_eq!(broken("tests/a.rs", "#[cfg_attr(not(shared_data), ignore)] fn f() {}"), 1);
    assert_eq!(broken("tests/a.rs", "#[cfg_attr(not(x), ignore = \"needs y\")] fn f() { ignore(3) }"), 0);
}

#[test]
fn unsafe_prints_clocks_and_the_environment_stay_where_they_belong() {
    let text = |code: &str| format!("fn f() {{ {code} }}");
    for code in [
        "unsafe { g() }",
        "println!()",
        "eprint!()",
        "std::io::stdout()",
        "Instant::now()",
        "std::env::var(n)",
    ] {
        assert_eq!(broken("src/reward/par.rs", &text(code)), 1, "{code}");
    }
    assert_eq!(broken("src/device/map.rs", &text("unsafe { g() }")), 0);
    assert_eq!(broken("src/cli/train.rs", &text("println!(); Instant::now(); std::env::var(n)")), 0);
    assert_eq!(broken("src/trainer/metrics.rs", &text("eprintln!()")), 0);
    assert_eq!(broken("src/reward/par.rs", "// unsafe println!() Instant::now()"), 0);
}

#[test]
fn a_lint_on_size_cannot_be_switched_off() {
    assert_eq!(broken("src/a/b.rs", "#[allow(clippy::too_many_arguments)] fn f() {}"), 1);
    assert_eq!(broken("src/a/b.rs", "#![expect(clippy::too_many_lines, reason = \"x\")]"), 1);
}

#[test]
fn unfinished_marks_and_absolute_paths_are_refused() {
    assert_eq!(broken("src/a/b.rs", concat!("// TO", "DO: later")), 1);
    assert_eq!(broken("kernels/a.cu", concat!("// see /ho", "me/me/x")), 1);
}
