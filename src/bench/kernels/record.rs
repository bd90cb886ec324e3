use serde::Serialize;
use serde_json::{Map, Value};

use super::{Beside, Ceilings, KernelShapes, Spread};
use crate::bench::{Computer, Machine, Program};
use crate::ops::Work;

/// What a run over the kernels leaves behind.
#[derive(Clone, Debug, Serialize)]
pub struct KernelsRecord {
    /// `kernels`.
    pub what: &'static str,
    /// Shapes that were asked for, and how they were measured.
    pub facts: Map<String, Value>,
    /// Where.
    pub machine: Machine,
    /// The device that computed.
    pub device: Computer,
    /// What was run.
    pub program: Program,
    /// Load average before.
    pub load: f64,
    /// The device's own limits.
    pub ceilings: Ceilings,
    /// Every case that the filter let by, in order.
    pub cases: Vec<CaseRecord>,
    /// Load average after.
    pub load_after: f64,
}

/// One operator on one shape.
#[derive(Clone, Debug, Serialize)]
pub struct CaseRecord {
    /// `operator/what`.
    pub name: String,
    /// What it must do at least.
    #[serde(flatten)]
    pub work: Work,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The other sides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Beside>,
}

/// How a case went.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// It was measured.
    Measured(Measured),
    /// It was not.
    NotRun {
        /// Why.
        not_run: String,
        /// Bytes that its operands need.
        bytes_needed: usize,
    },
}

/// How fast a case was.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Seconds of a repeat.
    pub seconds: Spread,
    /// 1e9 bytes a second, of the bytes that it must move at least.
    pub gigabytes_per_second: f64,
    /// 1e12 floating-point operations a second.
    pub teraflops: f64,
    /// The limit that binds it: the one that takes longest for its work.
    pub bound: Bound,
    /// Seconds that the limit takes for its work, over the measured median.
    pub share: f64,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Reading memory.
    Read,
    /// Reading and writing memory.
    Copy,
    /// Multiplying matrices.
    Matrix,
}

impl KernelsRecord {
    /// Names of the cases that were not measured.
    pub fn not_run(&self) -> impl Iterator<Item = &str> {
        let missing = |case: &&CaseRecord| matches!(case.outcome, Outcome::NotRun { .. });
        self.cases.iter().filter(missing).map(|case| case.name.as_str())
    }
}

/// The facts of a run.
pub(super) fn facts(shapes: &KernelShapes, options: &super::KernelOptions) -> Map<String, Value> {
    let c = &shapes.config;
    let mut facts = Map::new();
    let mut add = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    let sizes = [
        ("hidden", c.hidden),
        ("feed_forward", c.feed_forward),
        ("vocabulary", c.vocabulary),
        ("heads", c.heads),
        ("kv_heads", c.kv_heads),
        ("head_dim", c.head_dim),
        ("repeats", options.repeats),
        ("warm_up", options.warm_up),
        ("sweep_bytes", options.sweep),
    ];
    for (name, size) in sizes {
        add(name, size.into());
    }
    add("filter", options.filter.clone().into());
    add("shapes", serde_json::to_value(shapes).expect("shapes are plain numbers"));
    facts
}
