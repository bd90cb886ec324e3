//! Whether this machine computes what the contracts say: every operator's body against the f64 body, a whole model, and the bits
//! that sampling and training agree by. Needs nothing but the program.

mod attention;
mod bits;
mod elementwise;
mod head;
mod model;
mod products;
mod subject;
mod tolerance;
mod updates;

use std::collections::BTreeMap;

use serde::Serialize;

use super::BenchError;
use crate::device::{Cuda, Device, DeviceChoice, Float, Stream};
use crate::tensor::{DType, Element};
use subject::{Place, Subject};

pub use tolerance::{Breach, Exact, Fit, fit};

/// What to check.
#[derive(Clone, Debug, Default)]
pub struct SelftestOptions {
    /// Only checks whose operator or case contains this; all where it is empty.
    pub filter: String,
    /// How much time there is.
    pub effort: Effort,
}

/// How much time there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Small shapes alone, as a CPU and an emulated device have time for.
    #[default]
    Small,
    /// Shapes that take a GPU's large tiles, too.
    Full,
}

/// What one check found: one JSON line.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The operator, or what else was checked.
    pub check: &'static str,
    /// The shape.
    pub case: String,
    /// Storage.
    pub dtype: DType,
    /// Compute capability whose kernels ran; none: the CPU, or more than one.
    pub on: Option<[u32; 2]>,
    /// How it came out.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How a check came out.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Every element of every output is near enough.
    Held {
        /// By output: the worst error and what is allowed, in units of what rounding may cost.
        outputs: BTreeMap<&'static str, Fit>,
    },
    /// The bits are the same.
    Agreed {
        /// Elements that were compared at most.
        compared: usize,
    },
    /// A whole model's numbers are near enough.
    Near {
        /// |got - exact| / |exact|.
        distance: f64,
        /// Twice that of the CPU's bf16.
        allowed: f64,
    },
    /// An observation that nothing rests on.
    Fact {
        /// Elements whose bits differ.
        differ: usize,
        /// Elements.
        of: usize,
    },
    /// Memory does not hold it.
    NotRun {
        /// Why.
        reason: String,
    },
    /// It is wrong.
    Failed {
        /// Which output.
        output: &'static str,
        /// Which element, where it is one.
        index: Option<usize>,
        /// What came.
        got: Option<f64>,
        /// What should have come.
        expected: Option<f64>,
        /// The same in words, with what is allowed.
        message: String,
    },
}

impl Finding {
    /// Whether the device does not compute what it should.
    pub fn failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed { .. })
    }
}

/// Checks `device`; `watch` hears every finding.
///
/// # Errors
/// When the device refuses work or loses it; a wrong result is a finding.
pub fn selftest(
    device: &Device,
    options: &SelftestOptions,
    watch: &mut dyn FnMut(&Finding),
) -> Result<Vec<Finding>, BenchError> {
    let host = match device {
        Device::Host(_) => Stream::new(device.clone()),
        Device::Cuda(_) => Stream::new(Device::open(DeviceChoice::Cpu, 0)?),
    };
    let mut findings = Vec::new();
    let mut found = |finding: Finding| {
        watch(&finding);
        findings.push(finding);
    };
    for (stream, dtype) in sides(device) {
        for subject in
            subjects(options).into_iter().filter(|subject| options.takes(subject.op, &subject.case))
        {
            found(held(&subject, &stream, dtype, &host)?);
        }
        if options.takes("product_rows", "") {
            found(bits::rows(&stream, dtype, options.rows())?);
        }
        if options.takes("whole_model", "") && (dtype == DType::F32 || matches!(device, Device::Cuda(_))) {
            found(model::finding(&stream, dtype, &host)?);
        }
    }
    if let Device::Cuda(cuda) = device {
        facts(cuda, options, &mut found)?;
    }
    Ok(findings)
}

/// Where and in which storage bodies run: a CPU's both, a GPU's kernels and, where it has newer ones, the portable ones.
fn sides(device: &Device) -> Vec<(Stream, DType)> {
    let Device::Cuda(cuda) = device else {
        return [DType::F32, DType::BF16].map(|dtype| (Stream::new(device.clone()), dtype)).into();
    };
    let portable = cuda.limited_to([8, 0]);
    let newer = (cuda.capability()[0] == 9).then(|| cuda.clone());
    let stream = |cuda: Cuda| (Stream::new(Device::Cuda(cuda)), DType::BF16);
    newer.into_iter().chain([portable]).map(stream).collect()
}

fn subjects(options: &SelftestOptions) -> Vec<Subject> {
    let large = options.effort == Effort::Full;
    let groups = [
        products::subjects(large),
        attention::subjects(large),
        head::subjects(large),
        elementwise::subjects(),
        updates::subjects(),
    ];
    groups.into_iter().flatten().collect()
}

fn facts(cuda: &Cuda, options: &SelftestOptions, found: &mut dyn FnMut(Finding)) -> Result<(), BenchError> {
    if options.takes("exchanged_operands", "") {
        for (stream, _) in sides(&Device::Cuda(cuda.clone())) {
            found(bits::exchanged(&stream)?);
        }
    }
    if options.takes("mma_sync_against_wgmma", "") {
        bits::cores(cuda)?.into_iter().for_each(found);
    }
    Ok(())
}

impl SelftestOptions {
    fn takes(&self, check: &str, case: &str) -> bool {
        check.contains(&self.filter) || (!case.is_empty() && case.contains(&self.filter))
    }

    /// Rows that equal bits are asked of.
    fn rows(&self) -> usize {
        match self.effort {
            Effort::Small => 130,
            Effort::Full => 16_384,
        }
    }
}

/// Compute capability whose kernels a stream runs.
fn core(stream: &Stream) -> Option<[u32; 2]> {
    match stream.device() {
        Device::Host(_) => None,
        Device::Cuda(cuda) => Some(cuda.capability()),
    }
}

/// One operator's body held to the f64 body: to twice the error of the CPU's body of the same precision on a GPU, to two units
/// of rounding on the CPU itself.
fn held(subject: &Subject, stream: &Stream, dtype: DType, host: &Stream) -> Result<Finding, BenchError> {
    let verdict = match compared(subject, stream, dtype, host) {
        Err(error) if error.is_memory() => Verdict::NotRun { reason: error.to_string() },
        other => other?,
    };
    Ok(Finding { check: subject.op, case: subject.case.clone(), dtype, on: core(stream), verdict })
}

fn compared(subject: &Subject, stream: &Stream, dtype: DType, host: &Stream) -> Result<Verdict, BenchError> {
    let got = (subject.run)(&Place { stream, dtype, host })?;
    let reference = Place { stream: host, dtype: DType::F64, host };
    let exact: Vec<Vec<f64>> = (subject.run)(&reference)?.into_iter().map(|output| output.values).collect();
    let terms = (subject.terms)(&reference, &exact)?;
    let plain: Vec<Vec<f64>> = match stream.device() {
        Device::Host(_) => {
            exact.iter().zip(&got).map(|(values, output)| rounded(output.dtype, values)).collect()
        }
        Device::Cuda(_) => {
            let plain = (subject.run)(&Place { stream: host, dtype, host })?;
            plain.into_iter().map(|output| output.values).collect()
        }
    };
    let mut outputs = BTreeMap::new();
    for (((output, plain), values), terms) in got.iter().zip(plain).zip(exact).zip(terms) {
        let exact = Exact { values, terms: terms.terms(dtype) };
        match fit(&output.values, &plain, &exact, output.dtype) {
            Ok(fit) => outputs.insert(output.name, fit),
            Err(breach) => return Ok(wrong(output.name, &breach)),
        };
    }
    Ok(Verdict::Held { outputs })
}

fn wrong(output: &'static str, breach: &Breach) -> Verdict {
    let (index, got, expected) = match *breach {
        Breach::Element { index, got, expected, .. } => (Some(index), Some(got), Some(expected)),
        Breach::Lengths { .. } | Breach::NotFinite => (None, None, None),
    };
    Verdict::Failed { output, index, got, expected, message: breach.to_string() }
}

/// What values become when they are stored.
fn rounded(dtype: DType, values: &[f64]) -> Vec<f64> {
    crate::with_float!(dtype, T => values.iter().map(|x| T::store(Float::from_f64(*x)).load().to_f64()).collect())
}
