//! Kernels with one thing changed: a barrier, wait, fence or commit taken out, or a bound shifted by one. A test suite that
//! does not notice a mutant does not check what the kernel needs there, or the change makes no difference; a list says, line
//! by line, where that is so and why.
//!
//! Orders are looked for in the whole source, so that a call may span lines; bounds line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::compile::{Compiler, files};

/// Calls that order something. Each is taken out in turn, where it is a statement.
const ORDERING: [&str; 17] = [
    "__syncthreads",
    "__syncwarp",
    "__threadfence",
    "sync_block",
    "cp_async_commit",
    "cp_async_wait",
    "named_sync",
    "named_arrive",
    "mbar_init",
    "mbar_arrive",
    "mbar_arrive_expect_tx",
    "mbar_wait",
    "fence_mbar_init",
    "fence_proxy_async",
    "wgmma_fence",
    "wgmma_commit",
    "wgmma_wait",
];

/// Comparisons and what each is shifted to.
const BOUNDS: [(&str, &str); 4] = [(" < ", " <= "), (" <= ", " < "), (" > ", " >= "), (" >= ", " > ")];

/// Headers that hold one wrapper after another: what they mean is the self-test's to check.
const WRAPPERS: [&str; 8] = [
    "kernel.cuh",
    "vector.cuh",
    "async_copy.cuh",
    "exponential.cuh",
    "tensor_core.cuh",
    "barrier.cuh",
    "tma.cuh",
    "wgmma.cuh",
];

/// The folder of the kernels that this crate was built with.
#[must_use]
pub fn kernels() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("this crate stands in kernels/").to_owned()
}

/// One change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// The file's name in `kernels/`.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// What stands on that line, without the space around it.
    pub text: String,
    /// What is changed, as the list of equivalents names it: the call, or both comparisons.
    pub change: String,
    bytes: Range<usize>,
    replacement: String,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}    in: {}", self.file, self.line, self.change, self.text)
    }
}

/// All mutants of all kernels and of the headers they share, in the order of files and lines.
///
/// # Errors
/// A source that cannot be read.
pub fn mutants(kernels: &Path) -> io::Result<Vec<Mutant>> {
    let mut all = Vec::new();
    for path in files(kernels, &["cu", "cuh"])? {
        let file = name(&path);
        if !WRAPPERS.contains(&file.as_str()) {
            all.extend(mutants_of(&file, &fs::read_to_string(path)?));
        }
    }
    Ok(all)
}

/// The mutants of one source.
#[must_use]
pub fn mutants_of(file: &str, source: &str) -> Vec<Mutant> {
    let code = without_comments(source);
    let mut edits = without_orders(&code);
    let mut start = 0;
    for line in code.split_inclusive('\n') {
        let moved = |(range, change, to): Edit| (start + range.start..start + range.end, change, to);
        edits.extend(shifted_bounds(line).into_iter().map(moved));
        start += line.len();
    }
    edits.sort_by_key(|edit| edit.0.start);
    let mutant = |(bytes, change, replacement): Edit| {
        let line = source[..bytes.start].matches('\n').count();
        let text = source.lines().nth(line).expect("a change is on a line").trim().to_owned();
        Mutant { file: file.to_owned(), line: line + 1, text, change, bytes, replacement }
    };
    edits.into_iter().map(mutant).collect()
}

/// What is replaced, how the list of equivalents calls that, and by what.
type Edit = (Range<usize>, String, String);

/// The source with spaces in place of its line comments.
fn without_comments(source: &str) -> String {
    let blank = |line: &str| match line.find("//") {
        Some(at) => {
            let (code, comment) = line.split_at(at);
            let blanks = comment.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' });
            code.chars().chain(blanks).collect()
        }
        None => line.to_owned(),
    };
    source.split_inclusive('\n').map(blank).collect()
}

/// Statements that only order something: `name(...);`, `name<...>(...);`, or the same as an item of a comma expression.
fn without_orders(code: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    for name in ORDERING {
        for at in words(code, name) {
            let after = &code[at + name.len()..];
            let Some(open) = after.find('(').filter(|_| after.starts_with(['(', '<'])) else { continue };
            let Some(close) = closing(&after[open..]) else { continue };
            let end = open + close;
            if after[end..].starts_with([';', ',']) {
                let range = at..at + name.len() + end;
                let call = code[range.clone()].split_whitespace().collect::<Vec<_>>().join(" ");
                edits.push((range, format!("without {call}"), "(void)0".to_owned()));
            }
        }
    }
    edits
}

/// Where `name` stands as a word of its own.
fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    let own = move |at: &usize| {
        !code[..*at].ends_with(part_of_a_word) && !code[at + name.len()..].starts_with(part_of_a_word)
    };
    code.match_indices(name).map(|(at, _)| at).filter(own)
}

/// Behind the parenthesis that closes the one that `code` begins with.
fn closing(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Comparisons of this line, and ends that a minimum sets, where they are made when the kernel runs.
fn shifted_bounds(code: &str) -> Vec<Edit> {
    let at_compile_time = ["#", "static_assert", "template", "if constexpr", "constexpr"];
    if at_compile_time.iter().any(|word| code.contains(word)) {
        return Vec::new();
    }
    let mut edits = Vec::new();
    for (from, to) in BOUNDS {
        let places: Vec<usize> = code.match_indices(from).map(|(at, _)| at).collect();
        for (nth, &at) in places.iter().enumerate() {
            let which = which(nth, places.len());
            let change = format!("`{}` for {which}`{}`", to.trim(), from.trim());
            edits.push((at..at + from.len(), change, to.to_owned()));
        }
    }
    let ends: Vec<usize> = words(code, "min").filter(|at| code[at + 3..].starts_with('(')).collect();
    for (nth, &at) in ends.iter().enumerate() {
        let Some(length) = closing(&code[at + 3..]) else { continue };
        let range = at..at + 3 + length;
        let shifted = format!("(1 + {})", &code[range.clone()]);
        edits.push((range, format!("1 more than {}`min`", which(nth, ends.len())), shifted));
    }
    edits
}

/// Which one it is of several of a line.
fn which(nth: usize, of: usize) -> &'static str {
    match nth {
        _ if of == 1 => "",
        0 => "the first ",
        1 => "the second ",
        2 => "the third ",
        _ => "a later ",
    }
}

/// Which kernels a file is part of, by name of the file without its ending.
///
/// # Errors
/// A source that cannot be read.
pub fn stems(kernels: &Path) -> io::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut texts = BTreeMap::new();
    for path in files(kernels, &["cu", "cuh"])? {
        texts.insert(name(&path), fs::read_to_string(path)?);
    }
    let mut part_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in texts.keys().filter(|file| file.ends_with(".cu")) {
        let mut waiting = vec![file.as_str()];
        while let Some(next) = waiting.pop() {
            let Some(text) = texts.get(next) else { continue };
            if part_of.entry(next.to_owned()).or_default().insert(file.trim_end_matches(".cu").to_owned()) {
                waiting.extend(
                    text.lines().filter_map(|line| line.strip_prefix("#include \"")?.strip_suffix('"')),
                );
            }
        }
    }
    Ok(part_of)
}

/// Compiles `stem`'s kernels with a mutant into `folder`, where they can be named in `ON_CPU_REPLACE`. Without one they are
/// what they are: a control.
///
/// # Errors
/// What the compiler said: such a mutant tells nothing about the tests.
pub fn build(kernels: &Path, mutant: Option<&Mutant>, stem: &str, folder: &Path) -> Result<PathBuf, String> {
    let sources = folder.join("sources");
    let copied = copy_sources(kernels, mutant, &sources);
    copied.map_err(|e| format!("{}: {e}", folder.display()))?;
    let shared = folder.join(stem).with_extension("so");
    Compiler::new(kernels).kernel(&sources.join(stem).with_extension("cu"), &shared)?;
    Ok(shared)
}

fn copy_sources(kernels: &Path, mutant: Option<&Mutant>, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for path in files(kernels, &["cu", "cuh"])? {
        let mut text = fs::read_to_string(&path)?;
        if let Some(mutant) = mutant.filter(|mutant| mutant.file == name(&path)) {
            text.replace_range(mutant.bytes.clone(), &mutant.replacement);
        }
        fs::write(to.join(name(&path)), text)?;
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().expect("a listed file has a name").to_string_lossy().into_owned()
}
