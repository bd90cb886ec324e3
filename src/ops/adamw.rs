//! One AdamW update (Loshchilov and Hutter, arXiv 1711.05101), by torch's formulas.
//!
//! g' = grad_scale g;  w -= lr weight_decay w;  m += (1 - beta1) (g' - m);  v = beta2 v + (1 - beta2) g'²;
//! w -= lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
//!
//! All arguments have as many elements as w. g, m and v (and master) are in the accumulator's dtype; w in storage. With a
//! master copy the update runs on it and w is its rounding; without, it runs on w, which loses steps smaller than half a unit
//! in the last place of bf16, unless it is rounded stochastically ([`Rounding`]). Moves 7 elements a parameter (f32): w, m, v read and written (`=`), g read. Elementwise: no order.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::launch::Launch;
use super::philox::Key;
use super::work::{Work, of};
use super::{OpError, expect_dtype};
use crate::device::{Address, Device, Float, Grid, Host, Stream};
use crate::tensor::{DType, Element, View, ViewMut};

const OP: &str = "adamw_step";
/// Elements that one thread takes at a time: whole blocks of random numbers.
const CHUNK: usize = 1 << 14;
/// Elements that share a block of random numbers: 16 bits each.
const BLOCK: usize = 8;

/// [`step`]'s, of `count` parameters: dtypes of w, g, and both moments, and of the master copy. With one, w is only written.
pub fn work(count: usize, [w, g, moments]: [DType; 3], master: Option<DType>) -> Work {
    let updated = master.map_or_else(|| of(w, 2), |master| of(w, 1) + of(master, 2));
    Work::moving(count * (updated + of(g, 1) + of(moments, 4)))
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
    /// First moment.
    pub m: ViewMut<'a>,
    /// Second moment.
    pub v: ViewMut<'a>,
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
        Device::Host(host) => crate::with_float!(param.w.dtype(), T => body::<T>(host, param, settings)),
        Device::Cuda(cuda) => launch(&Launch { op: OP, stem: "adamw", cuda }, param, settings)?,
    }
    Ok(())
}

fn check(param: &Param<'_>, settings: &AdamW) -> Result<(), OpError> {
    let (dims, dtype) = (param.w.dims(), param.w.dtype().accumulator());
    let mut all = vec![("g", param.g), ("m", param.m.view()), ("v", param.v.view())];
    all.extend(param.master.as_ref().map(|master| ("master", master.view())));
    for (tensor, view) in all {
        expect_dtype(OP, tensor, view.dtype(), dtype)?;
        if view.dims().count() != dims.count() {
            return Err(OpError::Shape { op: OP, tensor, got: view.dims(), expected: dims });
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

/// `AdamwStep` in `kernels/adamw.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    w: Address,
    g: Address,
    m: Address,
    v: Address,
    master: Address,
    count: u64,
    factors: [f32; 8],
    noise: Key,
}

const _: () = assert!(
    size_of::<Arguments>() == 96 && offset_of!(Arguments, count) == 40 && offset_of!(Arguments, noise) == 80
);

impl Factors<f32> {
    /// As the kernel takes them.
    fn in_order(&self) -> [f32; 8] {
        let Self { grad_scale, keep, toward_g, beta2, toward_square, step_size, root, eps } = *self;
        [grad_scale, keep, toward_g, beta2, toward_square, step_size, root, eps]
    }
}

/// Elements of a block of threads.
const BLOCK_ELEMENTS: usize = 2048;

fn launch(launch: &Launch<'_>, param: Param<'_>, settings: &AdamW) -> Result<(), OpError> {
    let name = match (param.w.dtype(), &param.master, settings.rounding) {
        (DType::F32, None, _) => "adamw_step_f32",
        (DType::BF16, Some(_), _) => "adamw_step_bf16_master",
        (DType::BF16, None, Rounding::Nearest) => "adamw_step_bf16",
        (DType::BF16, None, Rounding::Stochastic(_)) => "adamw_step_bf16_stochastic",
        (other, ..) => {
            let reason =
                format!("w is {other:?}: there are kernels for BF16, and for F32 without a master copy");
            return Err(launch.refuse(reason));
        }
    };
    let arguments = Arguments {
        w: launch.start("w", param.w.view())?,
        g: launch.start("g", param.g)?,
        m: launch.start("m", param.m.view())?,
        v: launch.start("v", param.v.view())?,
        master: param.master.map_or(Ok(Address(0)), |master| launch.start("master", master.view()))?,
        count: param.w.dims().count() as u64,
        factors: Factors::of(settings).in_order(),
        noise: match settings.rounding {
            Rounding::Stochastic(key) => key,
            Rounding::Nearest => Key::zeroed(),
        },
    };
    launch.run_with(name, Grid::row(param.w.dims().count().div_ceil(BLOCK_ELEMENTS), 256), &arguments)
}

/// `x` up or down to a bf16, as 16 random bits say. What is not finite stays.
fn rounded_by<A: Float>(x: A, random: u32) -> A {
    let wide = x.to_f64() as f32;
    let rounded = f32::from_bits(wide.to_bits().wrapping_add(random) & 0xffff_0000);
    if wide.is_finite() { A::from_f64(f64::from(rounded)) } else { x }
}

/// Rounds `weights`, whose first has this index within its tensor: a multiple of [`BLOCK`].
fn round_stochastically<T: Element>(weights: &mut [T], exact: &[T::Acc], first: usize, key: Key) {
    for (i, (weights, exact)) in weights.chunks_mut(BLOCK).zip(exact.chunks(BLOCK)).enumerate() {
        let block = first / BLOCK + i;
        let words = key.block((block >> 32) as u32, block as u32);
        for (k, (w, x)) in weights.iter_mut().zip(exact).enumerate() {
            *w = T::store(rounded_by(*x, words[k / 2] >> (k % 2 * 16) & 0xffff));
        }
    }
}

fn body<T: Element>(host: &Host, param: Param<'_>, settings: &AdamW) {
    let factors = Factors::<T::Acc>::of(settings);
    let moments = param.m.host_mut::<T::Acc>().chunks_mut(CHUNK).zip(param.v.host_mut().chunks_mut(CHUNK));
    let parts = param.g.host::<T::Acc>().chunks(CHUNK).zip(moments);
    let parts = param.w.host_mut::<T>().chunks_mut(CHUNK).zip(parts);
    match (param.master, settings.rounding) {
        (Some(master), _) => {
            let parts = parts.zip(master.host_mut::<T::Acc>().chunks_mut(CHUNK));
            host.run(parts.collect(), |((w, (g, (m, v))), master)| {
                for ((((w, g), m), v), master) in w.iter_mut().zip(g).zip(m).zip(v).zip(master) {
                    *master = factors.update(*master, *g, m, v);
                    *w = T::store(*master);
                }
            });
        }
        (None, Rounding::Stochastic(key)) if T::DTYPE == DType::BF16 => {
            host.run(parts.enumerate().collect(), |(chunk, (w, (g, (m, v))))| {
                let moments = g.iter().zip(m).zip(v);
                let exact: Vec<T::Acc> = w
                    .iter()
                    .zip(moments)
                    .map(|(w, ((g, m), v))| factors.update(w.load(), *g, m, v))
                    .collect();
                round_stochastically(w, &exact, chunk * CHUNK, key);
            });
        }
        (None, _) => host.run(parts.collect(), |(w, (g, (m, v)))| {
            for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                *w = T::store(factors.update(w.load(), *g, m, v));
            }
        }),
    }
}
