//! Ranges as a profiler hears them, through a library that pretends to be one's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

struct Profiler {
    folder: TempDir,
}

impl Profiler {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/fake_profiler.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]);
        assert!(compiler.arg(folder.path().join("profiler.so")).arg(source).status().unwrap().success());
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Two steps of a demo that learns next to nothing.
    fn train(&self, more: &[&str], environment: &[(&str, &Path)]) -> Output {
        let mut command = assert_cmd::Command::cargo_bin("patarm").unwrap();
        let settings = "--sft.steps 1 --sft.rows 4 --rl.steps 1 --rl.pairs 2 --rollout.samples 2 \
                        --rollout.max_new_tokens 8 --evaluation.held_out_pairs 2 --evaluation.validation_pairs 2 \
                        --evaluation.judgements 1";
        command.arg("train").arg("--out").arg(self.path("run")).args(settings.split_whitespace());
        command.args(["--threads", "1"]).args(more).envs(environment.iter().copied());
        command.output().unwrap()
    }
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_profiler_hears_of_steps_phases_and_layers() {
    let profiler = Profiler::new();
    let (library, heard) = (profiler.path("profiler.so"), profiler.path("heard"));
    let output =
        profiler.train(&["--nvtx"], &[("NVTX_INJECTION64_PATH", &library), ("FAKE_PROFILER", &heard)]);
    assert!(output.status.success(), "{}", talk(&output));
    let heard = fs::read_to_string(heard).unwrap();
    let lines: Vec<&str> = heard.lines().collect();
    let at = |line: &str| lines.iter().position(|l| *l == line).unwrap_or_else(|| panic!("{line}: {heard}"));
    let (first, second) = (at("step 1"), at("step 2"));
    for line in ["  rollout", "    prefill", "    decode", "      draw", "  update"] {
        assert!(lines[second..].contains(&line), "{line}: {heard}");
    }
    for line in ["    head and loss", "      layer 0"] {
        assert!(lines[first..second].contains(&line), "{line}: {heard}");
    }
    let micro_batch = |lines: &[&str]| lines.iter().any(|line| line.starts_with("  micro-batch of "));
    assert!(micro_batch(&lines[first..second]) && micro_batch(&lines[second..]), "{heard}");
}

#[test]
fn a_profiler_that_is_none_is_refused_and_none_at_all_is_said() {
    let profiler = Profiler::new();
    let (library, nothing) = (profiler.path("profiler.so"), profiler.path("nothing"));
    let none = profiler.train(&["--nvtx", "--print-config"], &[("NVTX_INJECTION64_PATH", &nothing)]);
    assert!(none.status.success(), "nothing runs, so nothing is opened");
    let absent = profiler.train(&["--nvtx"], &[("NVTX_INJECTION64_PATH", &nothing)]);
    assert!(!absent.status.success() && talk(&absent).contains("nothing"), "{}", talk(&absent));
    let deaf = [("NVTX_INJECTION64_PATH", library.as_path()), ("FAKE_DEAF", Path::new("1"))];
    let deaf = profiler.train(&["--nvtx"], &deaf);
    assert!(!deaf.status.success() && talk(&deaf).contains("does not listen"), "{}", talk(&deaf));
    let alone = profiler.train(&["--nvtx", "--profile-steps", "1"], &[]);
    assert_eq!(alone.status.code(), Some(2), "{}", talk(&alone));
    assert!(talk(&alone).contains("NVTX_INJECTION64_PATH is not set"), "{}", talk(&alone));
    assert!(talk(&alone).contains("--profile-steps needs --device cuda"), "{}", talk(&alone));
}
