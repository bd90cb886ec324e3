//! Streams, random numbers and guarded outputs.

use patarm::device::{Device, DeviceChoice, Float, Stream};
use patarm::tensor::{DType, Dims, Element, Tensor, ViewMut};
use patarm::with_float;

/// A stream on the CPU.
pub(crate) fn stream(threads: usize) -> Stream {
    Stream::new(Device::open(DeviceChoice::Cpu, threads).expect("the tests' machine has AVX2"))
}

/// Numbers in -1..1 that depend on `seed` only.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// What `values` become when they are stored.
pub(crate) fn rounded(dtype: DType, values: &[f64]) -> Vec<f64> {
    with_float!(dtype, T => values.iter().map(|x| T::store(Float::from_f64(*x)).load().to_f64()).collect())
}

/// Numbers as [`numbers`], rounded to `dtype`.
pub(crate) fn stored_numbers(dtype: DType, seed: u64, count: usize) -> Vec<f64> {
    rounded(dtype, &numbers(seed, count))
}

/// A tensor of `values`, rounded to `dtype`.
pub(crate) fn tensor(dtype: DType, values: &[f64], dims: Dims) -> Tensor {
    with_float!(dtype, T => {
        let values: Vec<T> = values.iter().map(|x| T::store(Float::from_f64(*x))).collect();
        Tensor::from_slice(&values, dims)
    })
}

/// The same where `stream` runs.
pub(crate) fn tensor_on(stream: &Stream, dtype: DType, values: &[f64], dims: Dims) -> Tensor {
    let mut tensor = Tensor::on(stream.device(), dtype, dims).expect("room");
    tensor.view_mut().write_f64(values.iter().copied()).expect("room");
    tensor
}

/// Ids where `stream` runs.
pub(crate) fn ids_on(stream: &Stream, ids: &[u32]) -> Tensor {
    let mut tensor = Tensor::on(stream.device(), DType::U32, patarm::dims![N: ids.len()]).expect("room");
    tensor.view_mut().write_ids(ids).expect("room");
    tensor
}

/// Rows before and after an output that nobody may write to: whole pieces of 16 bytes, however short rows are.
const GUARD: usize = 8;
/// What stands there, and in the output before it is written: exact in every dtype.
const UNTOUCHED: f64 = -77.5;

/// An output between guards.
pub(crate) struct Output {
    tensor: Tensor,
    dims: Dims,
}

impl Output {
    /// Filled with a value that no test expects.
    pub(crate) fn new(dtype: DType, dims: Dims) -> Self {
        Self::holding(dtype, &vec![UNTOUCHED; dims.count()], dims)
    }

    /// Filled with `values`.
    pub(crate) fn holding(dtype: DType, values: &[f64], dims: Dims) -> Self {
        let guard = vec![UNTOUCHED; GUARD * dims.row_len()];
        let all = [&guard, values, &guard].concat();
        Self { tensor: tensor(dtype, &all, dims.with_rows(dims.rows() + 2 * GUARD)), dims }
    }

    /// Filled with a value that no test expects, where `stream` runs.
    pub(crate) fn unknown_on(stream: &Stream, dtype: DType, dims: Dims) -> Self {
        Self::on(stream, dtype, &vec![UNTOUCHED; dims.count()], dims)
    }

    /// The same where `stream` runs. A CUDA device ends where the output does: the checks of its memory see reads, too.
    pub(crate) fn on(stream: &Stream, dtype: DType, values: &[f64], dims: Dims) -> Self {
        let behind = match stream.device() {
            Device::Host(_) => GUARD,
            Device::Cuda(_) => 0,
        };
        let guard = |rows| vec![UNTOUCHED; rows * dims.row_len()];
        let all = [&guard(GUARD), values, &guard(behind)].concat();
        let guarded = dims.with_rows(GUARD + dims.rows() + behind);
        Self { tensor: tensor_on(stream, dtype, &all, guarded), dims }
    }

    /// What the operator writes to.
    pub(crate) fn view(&mut self) -> ViewMut<'_> {
        self.tensor.rows_mut(GUARD..GUARD + self.dims.rows()).reshape(self.dims)
    }

    /// What it wrote.
    pub(crate) fn values(&self) -> Vec<f64> {
        let all = self.tensor.view().read().expect("what was written can be read");
        let (front, rest) = all.split_at(GUARD * self.dims.row_len());
        let (values, back) = rest.split_at(self.dims.count());
        assert!(front.iter().chain(back).all(|x| *x == UNTOUCHED), "written outside of {}", self.dims);
        values.to_vec()
    }
}

/// What drivers call a kernel's own trap: the CPU's, and two that NVIDIA's has for it.
const TRAPS: [&str; 3] = ["__trap()", "CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_ILLEGAL_INSTRUCTION"];

/// Panics unless a kernel met its own trap: a guard that let something by would be seen later, and as something else. A GPU
/// says so late, and then does nothing more for this process.
pub(crate) fn expect_trap(stream: &Stream, result: Result<(), patarm::ops::OpError>) {
    let late = |()| stream.sync().map_err(|error| error.to_string());
    let error = result.map_err(|error| error.to_string()).and_then(late).expect_err("a kernel stops");
    assert!(TRAPS.iter().any(|trap| error.contains(trap)), "{error}");
}

/// The bits of every value, for equality that tells 0 from -0.
pub(crate) fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
#[should_panic(expected = "written outside")]
fn a_write_beside_an_output_is_seen() {
    let dims = patarm::dims![N: 2, C: 5];
    let mut output = Output::new(DType::F32, dims);
    let row = output.tensor.rows_mut(GUARD + 2..GUARD + 3);
    row.host_mut::<f32>()[0] = 1.0;
    output.values();
}
