use half::bf16;

use super::tolerance::unit;
use crate::bench::BenchError;
use crate::device::Stream;
use crate::dims;
use crate::tensor::{DType, Dims, Tensor};

/// One operator on one shape, which any body can be asked about.
pub(super) struct Subject {
    /// The operator.
    pub(super) op: &'static str,
    /// The shape.
    pub(super) case: String,
    /// What the body for this place gives. The inputs are the same numbers in every dtype.
    pub(super) run: Run,
    /// Of each output, given the f64 body's place and values: sums of the magnitudes of its elements' terms.
    pub(super) terms: Terms,
}

pub(super) type Run = Box<dyn Fn(&Place<'_>) -> Result<Vec<Output>, BenchError>>;
pub(super) type Terms = Box<dyn Fn(&Place<'_>, &[Vec<f64>]) -> Result<Vec<Magnitudes>, BenchError>>;

/// Sums of the magnitudes of an output's terms, an element each.
pub(super) struct Magnitudes {
    /// Of what is rounded to the accumulator's dtype on the way: terms, and what their factors were summed from.
    summed: Vec<f64>,
    /// Of terms one of whose factors is rounded to storage on its way into a product; empty where there are none.
    narrowed: Vec<f64>,
}

impl Magnitudes {
    pub(super) fn new(summed: Vec<f64>, narrowed: Vec<f64>) -> Self {
        Self { summed, narrowed }
    }

    /// All of them, those of a coarser unit counted as so many of the accumulator's.
    pub(super) fn terms(self, storage: DType) -> Vec<f64> {
        let coarse = unit(storage) / unit(storage.accumulator());
        let narrowed = self.narrowed.into_iter().chain(std::iter::repeat(0.0));
        self.summed.into_iter().zip(narrowed).map(|(summed, narrowed)| summed + coarse * narrowed).collect()
    }
}

impl From<Vec<f64>> for Magnitudes {
    fn from(summed: Vec<f64>) -> Self {
        Self { summed, narrowed: Vec::new() }
    }
}

impl Subject {
    pub(super) fn new(
        op: &'static str,
        case: String,
        run: impl Fn(&Place<'_>) -> Result<Vec<Output>, BenchError> + 'static,
        terms: impl Fn(&[Vec<f64>]) -> Vec<Vec<f64>> + 'static,
    ) -> Self {
        let terms = move |exact: &[Vec<f64>]| terms(exact).into_iter().map(Magnitudes::from).collect();
        Self { op, case, run: Box::new(run), terms: Box::new(move |_, exact| Ok(terms(exact))) }
    }

    /// One of whose elements each stands alone.
    pub(super) fn alone(
        op: &'static str,
        case: String,
        run: impl Fn(&Place<'_>) -> Result<Vec<Output>, BenchError> + 'static,
    ) -> Self {
        let magnitudes = |values: &Vec<f64>| values.iter().map(|x| x.abs()).collect();
        Self::new(op, case, run, move |exact| exact.iter().map(magnitudes).collect())
    }
}

/// What an operator wrote.
pub(super) struct Output {
    /// Its argument's name.
    pub(super) name: &'static str,
    /// How it is stored.
    pub(super) dtype: DType,
    /// As numbers.
    pub(super) values: Vec<f64>,
}

/// Where a body runs and how it stores numbers.
pub(super) struct Place<'a> {
    pub(super) stream: &'a Stream,
    pub(super) dtype: DType,
    /// Where inputs that are themselves results are made, once for all bodies.
    pub(super) host: &'a Stream,
}

impl Place<'_> {
    /// The f64 body's.
    pub(super) fn exact(&self) -> Self {
        Self { stream: self.host, dtype: DType::F64, ..*self }
    }

    /// What `seed` gives, in storage.
    pub(super) fn numbers(&self, seed: u64, dims: Dims) -> Result<Tensor, BenchError> {
        self.holding(self.dtype, &numbers(seed, dims.count()), dims)
    }

    /// The same in the accumulator's dtype.
    pub(super) fn sums(&self, seed: u64, dims: Dims) -> Result<Tensor, BenchError> {
        self.holding(self.dtype.accumulator(), &numbers(seed, dims.count()), dims)
    }

    /// These numbers.
    pub(super) fn holding(&self, dtype: DType, values: &[f64], dims: Dims) -> Result<Tensor, BenchError> {
        let mut tensor = Tensor::on(self.stream.device(), dtype, dims)?;
        tensor.view_mut().write_f64(values.iter().copied())?;
        Ok(tensor)
    }

    /// Room in storage.
    pub(super) fn room(&self, dims: Dims) -> Result<Tensor, BenchError> {
        Ok(Tensor::on(self.stream.device(), self.dtype, dims)?)
    }

    /// Room in the accumulator's dtype.
    pub(super) fn room_for_sums(&self, dims: Dims) -> Result<Tensor, BenchError> {
        Ok(Tensor::on(self.stream.device(), self.dtype.accumulator(), dims)?)
    }

    /// These ids.
    pub(super) fn ids(&self, ids: &[u32]) -> Result<Tensor, BenchError> {
        let mut tensor = Tensor::on(self.stream.device(), DType::U32, dims![N: ids.len()])?;
        tensor.view_mut().write_ids(ids)?;
        Ok(tensor)
    }
}

/// What an operator wrote to `tensor`.
pub(super) fn output(name: &'static str, tensor: &Tensor) -> Result<Output, BenchError> {
    let values = tensor.view().read()?;
    Ok(Output { name, dtype: tensor.dtype(), values })
}

/// Numbers in -1..1 that every floating-point dtype holds exactly, a function of `seed` alone.
pub(super) fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        bf16::from_f64(uniform).to_f64()
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Magnitudes.
pub(super) fn sizes(values: &[f64]) -> Vec<f64> {
    values.iter().map(|x| x.abs()).collect()
}
