//! The house rules, held against the code: who uses whom, how long a file is, where `unsafe` and prints may stand.

#[path = "architecture/edges.rs"]
mod edges;
#[path = "architecture/kernels.rs"]
mod kernels;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rules::File;
use table::Table;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust and CUDA files below `folder` of the repository, paths from the root; empty where there is no folder.
fn files(folder: &str) -> Vec<File> {
    let mut waiting = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(next) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for path in entries.map(|entry| entry.expect("a listed entry can be read").path()) {
            let is_code = path
                .extension()
                .is_some_and(|e| ["rs", "cu", "cuh", "h", "cpp"].iter().any(|code| e == *code));
            if path.is_dir() && !path.ends_with("target") {
                waiting.push(path);
            } else if is_code {
                found.push(read(&path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn read(path: &PathBuf) -> File {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let short = path.strip_prefix(root()).expect("the walk starts at the root");
    File { path: short.to_string_lossy().into_owned(), text }
}

/// Exported macro -> the module it belongs to.
fn macro_homes(files: &[File]) -> BTreeMap<String, String> {
    let home = |file: &File| {
        let module = edges::module_of(Path::new(&file.path[4..]));
        let names = edges::exported_macros(&source::tokens(&file.text));
        names.into_iter().map(move |name| (name, module.clone())).collect::<Vec<_>>()
    };
    files.iter().flat_map(home).collect()
}

fn table() -> Table {
    Table::parse(&fs::read_to_string(root().join("src/lib.rs")).expect("the crate has a root"))
}

fn assert_none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn a_module_uses_only_what_stands_on_its_line() {
    let table = table();
    let (files, mut breaches) = (files("src"), Vec::new());
    let macros = macro_homes(&files);
    for file in files {
        let path = Path::new(&file.path).strip_prefix("src").expect("src was asked for");
        let module = edges::module_of(path);
        let entry = BTreeSet::from(["cli".to_owned()]);
        let allowed = match module.as_str() {
            "lib" => continue,
            "main" => &entry,
            name => table.allowed.get(name).unwrap_or_else(|| panic!("{name} has no row in src/lib.rs")),
        };
        for (used, line) in edges::edges(path, &source::tokens(&file.text)) {
            let used = macros.get(&used).unwrap_or(&used);
            if *used != module && !allowed.contains(used) {
                breaches.push(format!("{}:{line}: {module} may not use {used}", file.path));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn the_table_has_no_cycle_and_pure_modules_reach_no_tensor() {
    let table = table();
    assert_eq!(table.cycle(), None, "a module reaches itself");
    for module in &table.pure {
        let reached = table.reach(module);
        assert!(!reached.contains("tensor") && !reached.contains("device"), "{module} is not pure");
    }
}

#[test]
fn every_module_of_the_crate_is_a_folder_with_a_row() {
    let table = table();
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("the crate has a root");
    let tokens = source::tokens(&lib);
    let declared: BTreeSet<&str> =
        (1..tokens.len()).filter(|&i| tokens[i - 1].text == "mod").map(|i| tokens[i].text.as_str()).collect();
    assert!(!declared.is_empty(), "src/lib.rs declares its modules");
    for name in &declared {
        assert!(table.allowed.contains_key(*name), "{name} has no row in the table of src/lib.rs");
        assert!(root().join("src").join(name).join("mod.rs").is_file(), "src/{name}/mod.rs is missing");
    }
    let names = files("src").into_iter().map(|file| edges::module_of(Path::new(&file.path[4..])));
    for name in names.filter(|name| name != "lib" && name != "main") {
        assert!(declared.contains(name.as_str()), "src/{name} is not declared in src/lib.rs");
    }
}

#[test]
fn files_keep_the_house_rules() {
    let mut all: Vec<File> = ["src", "tests", "benches", "kernels"].into_iter().flat_map(files).collect();
    let alone = ["build.rs", "README.md", "CHANGELOG.md", "Cargo.toml", ".ci/run"];
    all.extend(alone.map(|name| read(&root().join(name))));
    assert!(all.len() > 20, "the walk found the tree");
    assert_none(all.iter().flat_map(rules::breaches).collect());
}

#[test]
fn kernels_say_what_they_do_and_know_no_compiler() {
    let all = files("kernels");
    assert!(all.iter().any(|file| file.path == "kernels/kernel.cuh"), "the walk found the kernels");
    assert_none(all.iter().flat_map(kernels::breaches).collect());
}

#[test]
fn ci_ends_with_the_test_command_of_the_readme() {
    let text = |name: &str| fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (readme, ci) = (text("README.md"), text(".ci/run"));
    let commands: Vec<&str> = readme.lines().filter(|line| line.starts_with("cargo test")).collect();
    assert_eq!(commands.len(), 1, "the README names one test command: {commands:?}");
    assert_eq!(ci.lines().last(), Some(commands[0]));
}
