//! Whether the kernels' tests notice when a barrier, wait or fence is gone, or a bound is off by one.
//!
//!     cargo test --release --test kernels --no-run
//!     cargo run --release --manifest-path kernels/on_cpu/Cargo.toml -- [--sample N] [--only FILE] TEST_BINARY
//!
//! A mutant is compiled alone, and the test binary is started with it for the tests that launch its kernels. Fails where a
//! mutant survives that `equivalents.txt` does not argue away, where one that it does is killed, and where it argues away
//! more than a tenth of all. `--sample` runs N mutants, evenly spread; `--only` those of one file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use on_cpu::mutation::{self, Equivalent, Mutant};

/// Tests that take longer than this with a mutant hang.
const LONGEST: Duration = Duration::from_secs(300);

const LIST: &str = include_str!("../../equivalents.txt");

struct Request {
    tests: PathBuf,
    sample: Option<usize>,
    only: Option<String>,
}

/// The tests that launch a kernel of each source, by name of the source without its ending.
type Cases = BTreeMap<String, BTreeSet<String>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Survived,
    /// The change is one that the compiler refuses.
    NotCompiled,
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
    let usage = "usage: mutate [--sample N] [--only FILE] TEST_BINARY";
    let (mut tests, mut sample, mut only) = (None, None, None);
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--sample" => sample = Some(words.next().and_then(|n| n.parse().ok()).ok_or(usage)?),
            "--only" => only = Some(words.next().ok_or(usage)?),
            _ => tests = Some(PathBuf::from(word)),
        }
    }
    Ok(Request { tests: tests.ok_or(usage)?, sample, only })
}

/// How many mutants are not as they should be.
fn run(request: &Request) -> Result<usize, String> {
    let kernels = mutation::kernels();
    let all = mutation::mutants(&kernels).map_err(|e| format!("{}: {e}", kernels.display()))?;
    let list = mutation::equivalents(LIST, &all).map_err(|e| format!("equivalents.txt: {e}"))?;
    let argued = all.iter().filter(|mutant| list.iter().any(|entry| entry.is(mutant))).count();
    if argued * 10 > all.len() {
        return Err(format!(
            "equivalents.txt argues away {argued} of {} mutants, more than a tenth",
            all.len()
        ));
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
    let wrong = judge_all(&chosen, &list, |mutant| bench.fate(Some(mutant), &stems[&mutant.file]));
    fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(wrong)
}

fn choose<'a>(all: &'a [Mutant], request: &Request) -> Vec<&'a Mutant> {
    let wanted = |mutant: &&Mutant| request.only.as_ref().is_none_or(|file| *file == mutant.file);
    let wanted: Vec<&Mutant> = all.iter().filter(wanted).collect();
    let step = request.sample.map_or(1, |sample| wanted.len().div_ceil(sample.max(1)).max(1));
    wanted.into_iter().step_by(step).collect()
}

/// The test binary, quiet. Test harnesses name threads after tests where there is more than one.
fn start(tests: &Path) -> Command {
    let mut command = Command::new(tests);
    command.args(["--test-threads", "2"]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs all tests once, and takes down who launches what.
fn cases(tests: &Path, folder: &Path) -> Result<Cases, String> {
    let trace = folder.join("trace");
    let status =
        start(tests).env("ON_CPU_TRACE", &trace).status().map_err(|e| format!("{}: {e}", tests.display()))?;
    if !status.success() {
        return Err(format!("{}: the tests fail without a mutant", tests.display()));
    }
    let mut cases = Cases::new();
    for line in fs::read_to_string(&trace).unwrap_or_default().lines() {
        let (test, stem) = line.split_once(' ').ok_or("the trace has two words a line")?;
        cases.entry(stem.to_owned()).or_default().insert(test.to_owned());
    }
    Ok(cases)
}

/// Prints what becomes of each mutant, and counts those that are not as they should be.
fn judge_all(chosen: &[&Mutant], list: &[Equivalent], fate: impl Fn(&Mutant) -> Fate + Sync) -> usize {
    let (next, wrong) = (Mutex::new(chosen.iter()), Mutex::new(0));
    let work = || {
        while let Some(mutant) = { next.lock().expect("no worker panics").next() } {
            let fate = fate(mutant);
            let argued = list.iter().any(|entry| entry.is(mutant));
            let is_wrong = matches!((fate, argued), (Fate::Survived, false) | (Fate::Killed, true));
            println!("{} {fate:?} {mutant}", if is_wrong { "!" } else { " " });
            *wrong.lock().expect("no worker panics") += usize::from(is_wrong);
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    wrong.into_inner().expect("no worker panics")
}

/// Where mutants are built and tested.
struct Bench<'a> {
    tests: &'a Path,
    cases: &'a Cases,
    folder: &'a Path,
}

impl Bench<'_> {
    fn fate(&self, mutant: Option<&Mutant>, stems: &BTreeSet<String>) -> Fate {
        let tests: BTreeSet<&String> =
            stems.iter().filter_map(|stem| self.cases.get(stem)).flatten().collect();
        if tests.is_empty() {
            return Fate::Survived;
        }
        let own = self.folder.join(format!("{:?}", thread::current().id()).replace(['(', ')'], ""));
        match mutation::build(&mutation::kernels(), mutant, stems, &own) {
            Err(_) => Fate::NotCompiled,
            Ok(kernels) if pass(self.tests, &tests, &kernels) => Fate::Survived,
            Ok(_) => Fate::Killed,
        }
    }
}

/// Whether these tests pass with these kernels in place of those of the same names.
fn pass(binary: &Path, tests: &BTreeSet<&String>, kernels: &[PathBuf]) -> bool {
    let kernels = env::join_paths(kernels).expect("folders for temporary files have no colon in their names");
    let child = start(binary).arg("--exact").args(tests).env("ON_CPU_REPLACE", kernels).spawn();
    let mut child = child.expect("the test binary ran before");
    let begin = Instant::now();
    while begin.elapsed() < LONGEST {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return status.success();
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().and_then(|()| child.wait()).expect("the child is ours");
    false
}
