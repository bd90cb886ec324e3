//! The program as a person runs it, and the small models and files it is run on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

/// How a run ended and what it said.
pub(crate) struct Ended {
    /// Exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output: data.
    pub(crate) out: String,
    /// Standard error: talk.
    pub(crate) talk: String,
}

impl Ended {
    pub(crate) fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            talk: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It ended well; its last line of JSON.
    pub(crate) fn well(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.talk);
        let last = self.out.lines().last().unwrap_or("null");
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}"))
    }

    /// It ended with `code`, said all of `hints`, and did not panic.
    pub(crate) fn refused(&self, code: i32, hints: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.talk);
        for hint in hints {
            assert!(self.talk.contains(hint), "no `{hint}` in: {}", self.talk);
        }
        assert!(!self.talk.contains("panicked"), "{}", self.talk);
    }
}

/// Runs the program on one thread.
pub(crate) fn patarm(arguments: &[&str]) -> Ended {
    let mut command = assert_cmd::Command::cargo_bin("patarm").unwrap();
    Ended::of(&command.args(arguments).args(["--threads", "1"]).output().unwrap())
}

/// Runs the program with at most so many megabytes of memory of its own (files that it maps are not counted) and seconds of
/// processor time: beyond either it is ended, not by its own exit code.
pub(crate) fn within([megabytes, seconds]: [usize; 2], arguments: &[&str]) -> Ended {
    let limits = format!("ulimit -d {}; ulimit -t {seconds}; exec \"$0\" \"$@\"", megabytes * 1024);
    let mut command = assert_cmd::Command::new("sh");
    command.args(["-c", &limits]).arg(assert_cmd::cargo::cargo_bin!("patarm"));
    Ended::of(&command.args(arguments).args(["--threads", "1"]).output().unwrap())
}

/// A temporary folder with names for what is in it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Where `name` is or would be.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes one file and returns its path.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.0.path().join(name), bytes).unwrap();
        self.path(name)
    }

    /// A copy of the small model that a test may damage.
    pub(crate) fn model(&self, name: &str) -> PathBuf {
        let copy = self.0.path().join(name);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(model()).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, copy.join(from.file_name().unwrap())).unwrap();
        }
        copy
    }
}

/// A model of two layers with the demo's tokenizer: one for all tests, made by `patarm init`.
pub(crate) fn model() -> &'static str {
    static MODEL: OnceLock<(Home, String)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let home = Home::new();
        let source = home.path("source");
        fs::create_dir(&source).unwrap();
        let tokenizer = patarm::demo::tokenizer().unwrap();
        tokenizer.save(Path::new(&source)).unwrap();
        fs::write(Path::new(&source).join("config.json"), shape(tokenizer.vocab_size()).to_string()).unwrap();
        let model = home.path("model");
        assert_eq!(patarm(&["init", "--config", &source, "--seed", "7", &model]).code, Some(0));
        (home, model)
    });
    path
}

fn shape(vocabulary: usize) -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": vocabulary, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "max_position_embeddings": 1024,
    })
}
