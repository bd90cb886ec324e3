//! Whether the kernels' tests notice when a barrier, wait or fence is gone, or a bound is off by one.
//!
//!     cargo test --release --test kernels --no-run
//!     cargo run --release --manifest-path kernels/on_cpu/Cargo.toml -- [--sample N] [--only FILE]... TEST_BINARY
//!
//! A mutant is compiled alone, kernel source by kernel source where it is in a header, and the tests that launch these kernels
//! run, the quickest first, until one fails. Fails where a mutant survives that `equivalents.txt` does not argue away, where
//! one that it does is killed, and where it argues away more than a tenth of all. `--sample` runs N mutants, evenly spread;
//! `--only` those of the named files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use on_cpu::equivalents::{Equivalent, equivalents};
use on_cpu::mutation::{self, Mutant};

/// A test that takes this many times as much processor time as without a mutant, and this much more, hangs.
const LONGEST: (u32, Duration) = (10, Duration::from_secs(5));

const LIST: &str = include_str!("../../equivalents.txt");

struct Request {
    tests: PathBuf,
    sample: Option<usize>,
    only: BTreeSet<String>,
}

/// A test, and how long it takes when nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    takes: Duration,
    test: String,
}

/// The tests that launch a kernel of each source, by name of the source without its ending; the quickest come first.
type Cases = BTreeMap<String, BTreeSet<Case>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Survived,
    /// The change is one that the compiler refuses.
    NotCompiled,
}

/// What became of the mutants of a file.
#[derive(Debug, Default)]
struct Tally {
    mutants: usize,
    killed: usize,
    equivalent: usize,
    wrong: usize,
}

fn main() -> ExitCode {
    let outcome = request().and_then(|request| run(&request));
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("{wrong} mutants are not as they should be");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("mutate: {why}");
            ExitCode::from(2)
        }
    }
}

fn request() -> Result<Request, String> {
    let usage = "usage: mutate [--sample N] [--only FILE]... TEST_BINARY";
    let (mut tests, mut sample, mut only) = (None, None, BTreeSet::new());
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--sample" => sample = Some(words.next().and_then(|n| n.parse().ok()).ok_or(usage)?),
            "--only" => drop(only.insert(words.next().ok_or(usage)?)),
            _ => tests = Some(PathBuf::from(word)),
        }
    }
    Ok(Request { tests: tests.ok_or(usage)?, sample, only })
}

/// How many mutants are not as they should be.
fn run(request: &Request) -> Result<usize, String> {
    let kernels = mutation::kernels();
    let all = mutation::mutants(&kernels).map_err(|e| format!("{}: {e}", kernels.display()))?;
    let list = equivalents(LIST, &all).map_err(|e| format!("equivalents.txt: {e}"))?;
    let argued = all.iter().filter(|mutant| list.iter().any(|entry| entry.is(mutant))).count();
    if argued * 10 > all.len() {
        let of = all.len();
        return Err(format!("equivalents.txt argues away {argued} of {of} mutants, more than a tenth"));
    }
    let folder = env::temp_dir().join(format!("mutants-{}", process::id()));
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let cases = cases(&request.tests, &folder)?;
    let chosen = choose(&all, request);
    println!("{} of {} mutants, {argued} of them called equivalent", chosen.len(), all.len());
    let stems = mutation::stems(&kernels).map_err(|e| format!("{}: {e}", kernels.display()))?;
    let bench = Bench { tests: &request.tests, cases: &cases, folder: &folder };
    if let Some(first) = chosen.first()
        && bench.fate(None, &stems[&first.file]) != Fate::Survived
    {
        return Err("the tests fail with kernels that are compiled anew and not changed".into());
    }
    let tallies = judge_all(&chosen, &list, |mutant| bench.fate(Some(mutant), &stems[&mutant.file]));
    fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(print(&tallies))
}

fn choose<'a>(all: &'a [Mutant], request: &Request) -> Vec<&'a Mutant> {
    let wanted = |mutant: &&Mutant| request.only.is_empty() || request.only.contains(&mutant.file);
    let wanted: Vec<&Mutant> = all.iter().filter(wanted).collect();
    let step = request.sample.map_or(1, |sample| wanted.len().div_ceil(sample.max(1)).max(1));
    wanted.into_iter().step_by(step).collect()
}

/// Does `work` to each item, on as many threads as there are processors.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = Mutex::new(items.iter());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || std::iter::from_fn(take).for_each(&work);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(worker))));
}

/// What each test launches and takes: kept in a file beside the binary, which is believed while it is the newer of both.
fn cases(binary: &Path, folder: &Path) -> Result<Cases, String> {
    let kept = binary.with_extension("cases");
    let changed = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    if changed(&kept) < changed(binary) {
        fs::write(&kept, traced(binary, folder)?).map_err(|e| format!("{}: {e}", kept.display()))?;
    }
    let mut cases = Cases::new();
    for line in fs::read_to_string(&kept).map_err(|e| format!("{}: {e}", kept.display()))?.lines() {
        let [stem, millis, test] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("{}: `{line}` is not a stem, milliseconds and a test", kept.display()));
        };
        let takes = Duration::from_millis(millis.parse().map_err(|e| format!("{}: {e}", kept.display()))?);
        cases.entry(stem.to_owned()).or_default().insert(Case { takes, test: test.to_owned() });
    }
    Ok(cases)
}

/// Runs each test once: a line for each stem whose kernels it launches, with how long it takes.
fn traced(binary: &Path, folder: &Path) -> Result<String, String> {
    let listed = Command::new(binary).args(["--list", "--format", "terse"]).output();
    let listed = listed.map_err(|e| format!("{}: {e}", binary.display()))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let tests: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let found = Mutex::new((String::new(), Vec::new()));
    each(&tests, |&test| {
        let trace = folder.join(test.replace("::", "-"));
        let begin = Instant::now();
        let mut command = Command::new(binary);
        command.args(arguments(test)).stdout(Stdio::null()).stderr(Stdio::null()).env("ON_CPU_TRACE", &trace);
        let passes = command.status().is_ok_and(|status| status.success());
        let millis = begin.elapsed().as_millis();
        let (lines, failed) = &mut *found.lock().unwrap_or_else(PoisonError::into_inner);
        for line in fs::read_to_string(&trace).unwrap_or_default().lines() {
            let (_, stem) = line.split_once(' ').expect("the trace has two words a line");
            lines.push_str(&format!("{stem} {millis} {test}\n"));
        }
        if !passes {
            failed.push(test.to_owned());
        }
    });
    let (lines, failed) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let binary = binary.display();
    if failed.is_empty() { Ok(lines) } else { Err(format!("{binary}: without a mutant fail {failed:?}")) }
}

/// One test. Test harnesses name threads after tests where there is more than one.
fn arguments(test: &str) -> [&str; 4] {
    ["--test-threads", "2", "--exact", test]
}

/// Prints what becomes of each mutant, and counts by file.
fn judge_all(
    chosen: &[&Mutant],
    list: &[Equivalent],
    fate: impl Fn(&Mutant) -> Fate + Sync,
) -> BTreeMap<String, Tally> {
    let tallies: Mutex<BTreeMap<String, Tally>> = Mutex::default();
    each(chosen, |mutant| {
        let fate = fate(mutant);
        let argued = list.iter().any(|entry| entry.is(mutant));
        let is_wrong = matches!((fate, argued), (Fate::Survived, false) | (Fate::Killed, true));
        println!("{} {fate:?} {mutant}", if is_wrong { "!" } else { " " });
        if fate != Fate::NotCompiled {
            let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
            let tally = tallies.entry(mutant.file.clone()).or_default();
            tally.mutants += 1;
            tally.killed += usize::from(fate == Fate::Killed);
            tally.equivalent += usize::from(argued);
            tally.wrong += usize::from(is_wrong);
        }
    });
    tallies.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The table of files; how many mutants are not as they should be.
fn print(tallies: &BTreeMap<String, Tally>) -> usize {
    println!("{:24} mutants   killed equivalent  wrong", "");
    let line = |name: &str, t: &Tally| {
        println!("{name:24} {:7} {:8} {:10} {:6}", t.mutants, t.killed, t.equivalent, t.wrong);
    };
    let mut all = Tally::default();
    for (file, tally) in tallies {
        line(file, tally);
        all.mutants += tally.mutants;
        all.killed += tally.killed;
        all.equivalent += tally.equivalent;
        all.wrong += tally.wrong;
    }
    line("all", &all);
    all.wrong
}

/// Where mutants are built and tested.
struct Bench<'a> {
    tests: &'a Path,
    cases: &'a Cases,
    folder: &'a Path,
}

impl Bench<'_> {
    fn fate(&self, mutant: Option<&Mutant>, stems: &BTreeSet<String>) -> Fate {
        let own = self.folder.join(format!("{:?}", thread::current().id()).replace(['(', ')'], ""));
        let mut tested: Vec<(&String, &BTreeSet<Case>)> =
            stems.iter().filter_map(|stem| Some((stem, self.cases.get(stem)?))).collect();
        tested.sort_by_key(|(_, cases)| cases.iter().map(|case| case.takes).sum::<Duration>());
        for (stem, cases) in tested {
            let Ok(kernels) = mutation::build(&mutation::kernels(), mutant, stem, &own) else {
                return Fate::NotCompiled;
            };
            if !cases.iter().all(|case| passes(self.tests, case, &kernels)) {
                return Fate::Killed;
            }
        }
        Fate::Survived
    }
}

/// Whether this test passes with these kernels in place of those of the same name. One that takes far more processor time
/// than without a mutant hangs, and is stopped.
fn passes(binary: &Path, case: &Case, kernels: &Path) -> bool {
    let seconds = (case.takes * LONGEST.0 + LONGEST.1).as_secs();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -t {seconds}; exec \"$@\""), "sh"])
        .arg(binary)
        .args(arguments(&case.test));
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null()).env("ON_CPU_REPLACE", kernels);
    quiet.status().expect("there is a shell").success()
}
