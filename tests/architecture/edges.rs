//! Which modules a file uses.

use std::path::Path;

use crate::source::{Token, follows};

/// One use of another module: its name and the line. The name is `<root>` for what is no module of the table.
pub(crate) type Edge = (String, usize);

/// The module a path below `src/` belongs to: its folder, or its stem for a file of the root.
pub(crate) fn module_of(path: &Path) -> String {
    let first = path.iter().next().expect("a path below src has a part");
    Path::new(first).file_stem().expect("a source file has a stem").to_string_lossy().into_owned()
}

/// How many modules lie between the crate's root and the code of this file: `a/mod.rs` is 1, `a/b.rs` is 2.
fn depth(path: &Path) -> usize {
    let parts = path.iter().count();
    let is_folder = path.file_name().is_some_and(|n| n == "mod.rs");
    let is_root = parts == 1 && path.file_name().is_some_and(|n| n == "lib.rs" || n == "main.rs");
    if is_root { 0 } else { parts - usize::from(is_folder) }
}

/// Every module named through `crate::`, `patarm::` or a chain of `super::` that climbs to the root.
pub(crate) fn edges(path: &Path, tokens: &[Token]) -> Vec<Edge> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].text.as_str() {
            "{" => open.push(at >= 2 && tokens[at - 2].text == "mod"),
            "}" => {
                open.pop();
            }
            "crate" | "patarm" if follows(tokens, at + 1, &["::"]) => found.extend(named(tokens, at + 2)),
            "super" if at < 2 || tokens[at - 2].text != "super" => {
                let climbed = (0..).take_while(|i| follows(tokens, at + 2 * i, &["super", "::"])).count();
                let inline = open.iter().filter(|is_module| **is_module).count();
                if climbed > 0 && climbed >= depth(path) + inline {
                    found.extend(named(tokens, at + 2 * climbed));
                }
            }
            _ => {}
        }
    }
    found
}

/// Macros that this file exports: they stand in the crate's root, but belong to the module that wrote them.
pub(crate) fn exported_macros(tokens: &[Token]) -> Vec<String> {
    let exports = (0..tokens.len()).filter(|&at| follows(tokens, at, &["macro_export", "]"]));
    let name = |at: usize| {
        let rules = (at..tokens.len()).find(|&at| follows(tokens, at, &["macro_rules", "!"]))?;
        Some(tokens.get(rules + 2)?.text.clone())
    };
    exports.filter_map(name).collect()
}

/// The first segments of the path or group of paths that starts at `at`, right after the root.
fn named(tokens: &[Token], at: usize) -> Vec<Edge> {
    let word = |at: usize| {
        let token = &tokens[at];
        let is_word = token.text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        (if is_word { token.text.clone() } else { "<root>".into() }, token.line)
    };
    if !follows(tokens, at, &["{"]) {
        return vec![word(at)];
    }
    let (mut found, mut level, mut next) = (Vec::new(), 1, at + 1);
    let mut starts = true;
    while level > 0 && next < tokens.len() {
        match tokens[next].text.as_str() {
            "{" => level += 1,
            "}" => level -= 1,
            "," => starts = level == 1,
            _ if starts => {
                found.push(word(next));
                starts = false;
            }
            _ => {}
        }
        next += 1;
    }
    found
}

#[cfg(test)]
fn names(path: &str, text: &str) -> Vec<String> {
    edges(Path::new(path), &crate::source::tokens(text)).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn paths_and_nested_groups_are_read() {
    assert_eq!(names("a/mod.rs", "use crate::b::{C, D}; fn f(x: crate::e::F) {}"), ["b", "e"]);
    assert_eq!(names("a/mod.rs", "use crate::{b::{C, d::{E, F}}, g, h::I};"), ["b", "g", "h"]);
    assert_eq!(names("a/mod.rs", "pub(crate) fn f() { $crate::b::c!() }"), ["b"]);
    assert_eq!(names("main.rs", "fn main() { patarm::cli::run() }"), ["cli"]);
    assert_eq!(names("a/mod.rs", "use crate::*;"), ["<root>"]);
}

#[test]
fn an_exported_macro_is_found_and_a_private_one_is_not() {
    let text = "#[macro_export] /// x\n macro_rules! dims { () => {} } macro_rules! inner { () => {} }";
    assert_eq!(exported_macros(&crate::source::tokens(text)), ["dims"]);
}

#[test]
fn super_counts_only_where_it_climbs_to_the_root() {
    assert_eq!(names("a/mod.rs", "use super::b;"), ["b"]);
    assert_eq!(names("a/c.rs", "use super::b;"), [""; 0]);
    assert_eq!(names("a/c.rs", "use super::super::b::D;"), ["b"]);
    assert_eq!(names("a/mod.rs", "mod tests { use super::*; }"), [""; 0]);
    assert_eq!(names("a/mod.rs", "mod tests { fn f() { if x { super::super::b::c() } } }"), ["b"]);
}
