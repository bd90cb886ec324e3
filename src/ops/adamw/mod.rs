//! One AdamW update (Loshchilov and Hutter, arXiv 1711.05101), by torch's formulas.
//!
//! g' = grad_scale g;  w -= lr weight_decay w;  m += (1 - beta1) (g' - m);  v = beta2 v + (1 - beta2) g'²;
//! w -= lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
//!
//! All arguments have as many elements as w. g, m and v (and master) are in the accumulator's dtype; w in storage. Or m and v
//! are codes of 8 bits ([`codes`]) with scales in the accumulator's dtype: the update runs on the numbers they stand for, and
//! each block is coded anew. With a
//! master copy the update runs on it and w is its rounding; without, it runs on w, which loses steps smaller than half a unit
//! in the last place of bf16, unless it is rounded stochastically ([`Rounding`]). Moves 7 elements a parameter (f32): w, m, v read and written (`=`), g read. Elementwise
//! but for scales, and those are maxima: no order.

pub mod codes;
mod host;
mod launch;

use super::launch::Launch;
use super::philox::Key;
use super::work::{Work, of};
use super::{OpError, expect_dtype};
use crate::device::{Device, Float, Stream};
use crate::tensor::{DType, View, ViewMut};

const OP: &str = "adamw_step";

/// [`step`]'s, of `count` parameters: dtypes of w, g, and both moments, and of the master copy. With one, w is only written.
/// Moments that are codes have scales, in g's dtype.
pub fn work(count: usize, [w, g, moments]: [DType; 3], master: Option<DType>) -> Work {
    let updated = master.map_or_else(|| of(w, 2), |master| of(w, 1) + of(master, 2));
    let scales = if moments == DType::U8 { count.div_ceil(codes::BLOCK) * of(g, 4) } else { 0 };
    Work::moving(count * (updated + of(g, 1) + of(moments, 4)) + scales)
}

/// Settings of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Updates so far, this one included: 1 for the first.
    pub step: u64,
    /// What the gradient is multiplied by: the clip's factor.
    pub grad_scale: f64,
    /// How weights without a master copy are rounded to bf16.
    pub rounding: Rounding,
}

/// How updated weights become bf16. Wider weights, and those with a master copy, always go to the nearest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// Up with probability (distance to the lower bf16) / (distance between the two), so that small steps are kept in the mean.
    /// Element e adds to its f32's bits the 16 random bits that are half e % 2 of word e % 8 / 2 of the key's block e / 8 (at
    /// position e / 2^35), and drops the lower 16. So the bits depend on key and element alone: the key is one parameter's in one
    /// step.
    Stochastic(Key),
}

/// One parameter's tensors.
#[derive(Debug)]
pub struct Param<'a> {
    /// Weights.
    pub w: ViewMut<'a>,
    /// Gradient.
    pub g: View<'a>,
    /// First moment: numbers, or codes of the signed map.
    pub m: ViewMut<'a>,
    /// Second moment: numbers, or codes of the unsigned map.
    pub v: ViewMut<'a>,
    /// Where the moments are codes: of each, a scale for every [`codes::BLOCK`] elements.
    pub scales: Option<[ViewMut<'a>; 2]>,
    /// The weights in the accumulator's dtype, where storage is narrower.
    pub master: Option<ViewMut<'a>>,
}

/// Updates one parameter and its moments.
///
/// # Errors
/// When element counts or dtypes do not fit, or `step` is 0.
pub fn step(stream: &Stream, param: Param<'_>, settings: &AdamW) -> Result<(), OpError> {
    check(&param, settings)?;
    match stream.launch(OP) {
        Device::Host(host) => {
            crate::with_float!(param.w.dtype(), T => host::body::<T>(host, param, settings))
        }
        Device::Cuda(cuda) => launch::launch(&Launch { op: OP, stem: "adamw", cuda }, param, settings)?,
    }
    Ok(())
}

fn check(param: &Param<'_>, settings: &AdamW) -> Result<(), OpError> {
    let (dims, sums) = (param.w.dims(), param.w.dtype().accumulator());
    let kept = if param.scales.is_some() { DType::U8 } else { sums };
    let count = dims.count();
    let mut all = vec![
        ("g", param.g, sums, count),
        ("m", param.m.view(), kept, count),
        ("v", param.v.view(), kept, count),
    ];
    all.extend(param.master.as_ref().map(|master| ("master", master.view(), sums, count)));
    let blocks = count.div_ceil(codes::BLOCK);
    all.extend(param.scales.iter().flatten().map(|scales| ("scales", scales.view(), sums, blocks)));
    for (tensor, view, dtype, count) in all {
        expect_dtype(OP, tensor, view.dtype(), dtype)?;
        if view.dims().count() != count {
            let expected = if tensor == "scales" { crate::dims![Blocks: count] } else { dims };
            return Err(OpError::Shape { op: OP, tensor, got: view.dims(), expected });
        }
    }
    if settings.step == 0 {
        return Err(OpError::Argument { op: OP, reason: "steps count from 1".into() });
    }
    Ok(())
}

/// The settings as the factors that an element meets.
#[derive(Clone, Copy)]
struct Factors<A> {
    grad_scale: A,
    keep: A,
    toward_g: A,
    beta2: A,
    toward_square: A,
    step_size: A,
    root: A,
    eps: A,
}

impl<A: Float> Factors<A> {
    fn of(settings: &AdamW) -> Self {
        let power = |beta: f64| libm::pow(beta, settings.step as f64);
        Self {
            grad_scale: A::from_f64(settings.grad_scale),
            keep: A::from_f64(1.0 - settings.lr * settings.weight_decay),
            toward_g: A::from_f64(1.0 - settings.beta1),
            beta2: A::from_f64(settings.beta2),
            toward_square: A::from_f64(1.0 - settings.beta2),
            step_size: A::from_f64(settings.lr / (1.0 - power(settings.beta1))),
            root: A::from_f64(1.0 / (1.0 - power(settings.beta2)).sqrt()),
            eps: A::from_f64(settings.eps),
        }
    }

    #[inline(always)]
    fn update(&self, w: A, g: A, m: &mut A, v: &mut A) -> A {
        let g = g * self.grad_scale;
        *m = self.toward_g.fma(g - *m, *m);
        *v = self.beta2.fma(*v, self.toward_square * g * g);
        let denominator = v.sqrt().fma(self.root, self.eps);
        w * self.keep - self.step_size * (*m / denominator)
    }
}
