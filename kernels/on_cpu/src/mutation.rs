//! Kernels with one thing changed: a barrier, wait, fence or commit taken out, or a bound shifted by one. A test suite that
//! does not notice a mutant does not check what the kernel needs there, or the change makes no difference; a list says, line
//! by line, where that is so and why.

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
    replacement: &'static str,
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
    let mut found = Vec::new();
    let mut start = 0;
    for (number, line) in source.split_inclusive('\n').enumerate() {
        let code = &line[..line.find("//").unwrap_or(line.len())];
        for (range, change, replacement) in calls(code).into_iter().chain(shifted(code)) {
            let bytes = start + range.start..start + range.end;
            let text = line.trim().to_owned();
            found.push(Mutant { file: file.to_owned(), line: number + 1, text, change, bytes, replacement });
        }
        start += line.len();
    }
    found
}

type Edit = (Range<usize>, String, &'static str);

/// Statements of this line that only order something: `name(...);` or `name<...>(...);`.
fn calls(code: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    for name in ORDERING {
        for (at, _) in code.match_indices(name) {
            let before = code[..at].chars().next_back();
            let after = &code[at + name.len()..];
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') || !after.starts_with(['(', '<']) {
                continue;
            }
            if let Some(length) = statement(after) {
                let range = at..at + name.len() + length;
                edits.push((range.clone(), format!("without {}", &code[range]), ""));
            }
        }
    }
    edits
}

/// The length of `<...>(...)` where a statement or an item of a comma expression ends behind it.
fn statement(rest: &str) -> Option<usize> {
    let open = rest.find('(')?;
    let mut depth = 0;
    for (at, c) in rest[open..].char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            let end = open + at + 1;
            return rest[end..].starts_with(';').then_some(end);
        }
    }
    None
}

/// Comparisons of this line that are made when the kernel runs.
fn shifted(code: &str) -> Vec<Edit> {
    let at_compile_time = ["#", "static_assert", "template", "if constexpr", "constexpr"];
    if at_compile_time.iter().any(|word| code.contains(word)) {
        return Vec::new();
    }
    let mut edits = Vec::new();
    for (from, to) in BOUNDS {
        for (at, _) in code.match_indices(from) {
            edits.push((at..at + from.len(), format!("`{}` for `{}`", to.trim(), from.trim()), to));
        }
    }
    edits.sort_by_key(|edit| edit.0.start);
    edits
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

/// Compiles the kernels of a mutant's stems into `folder`, where they can be named in `ON_CPU_REPLACE`. Without a mutant they
/// are what they are: a control.
///
/// # Errors
/// What the compiler said: such a mutant tells nothing about the tests.
pub fn build(
    kernels: &Path,
    mutant: Option<&Mutant>,
    stems: &BTreeSet<String>,
    folder: &Path,
) -> Result<Vec<PathBuf>, String> {
    let sources = folder.join("sources");
    let copied = copy_sources(kernels, mutant, &sources);
    copied.map_err(|e| format!("{}: {e}", folder.display()))?;
    let compiler = Compiler::new(kernels);
    let mut built = Vec::new();
    for stem in stems {
        let shared = folder.join(stem).with_extension("so");
        compiler.kernel(&sources.join(stem).with_extension("cu"), &shared)?;
        built.push(shared);
    }
    Ok(built)
}

fn copy_sources(kernels: &Path, mutant: Option<&Mutant>, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for path in files(kernels, &["cu", "cuh"])? {
        let mut text = fs::read_to_string(&path)?;
        if let Some(mutant) = mutant.filter(|mutant| mutant.file == name(&path)) {
            text.replace_range(mutant.bytes.clone(), mutant.replacement);
        }
        fs::write(to.join(name(&path)), text)?;
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().expect("a listed file has a name").to_string_lossy().into_owned()
}

/// A mutant that is said to do what the kernel does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equivalent {
    file: String,
    text: String,
    change: String,
    /// Why nothing can tell the difference.
    pub reason: String,
}

impl Equivalent {
    /// Whether this is the mutant that is meant.
    #[must_use]
    pub fn is(&self, mutant: &Mutant) -> bool {
        self.file == mutant.file && self.text == mutant.text && self.change == mutant.change
    }
}

/// The list of equivalents: blocks of four lines, the file, its line, the change and the reason, with a blank line between
/// blocks; lines that begin with # are comments.
///
/// # Errors
/// A block of another length, or a mutant of that description that does not exist (any more).
pub fn equivalents(list: &str, mutants: &[Mutant]) -> Result<Vec<Equivalent>, String> {
    let lines: Vec<&str> = list.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let mut all = Vec::new();
    for block in lines.split(|line| line.is_empty()).filter(|block| !block.is_empty()) {
        let [file, text, change, reason] = block else {
            return Err(format!(
                "an equivalent is described by file, line, change and reason, not by {block:?}"
            ));
        };
        let owned = |part: &&str| (*part).to_owned();
        let named =
            Equivalent { file: owned(file), text: owned(text), change: owned(change), reason: owned(reason) };
        if !mutants.iter().any(|mutant| named.is(mutant)) {
            return Err(format!("{file}: no line `{text}` has a mutant `{change}`: the list is out of date"));
        }
        all.push(named);
    }
    Ok(all)
}
