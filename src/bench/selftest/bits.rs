use super::subject::numbers;
use super::{Finding, Verdict};
use crate::bench::BenchError;
use crate::device::{Cuda, Device, Stream};
use crate::dims;
use crate::ops::{Write, product};
use crate::tensor::{DType, Tensor};

/// What sampling and training agree by: a row's bits do not depend on how many rows there are. `most`: rows at most.
pub(super) fn rows(stream: &Stream, dtype: DType, most: usize) -> Result<Finding, BenchError> {
    let [m, k] = [520, 1160];
    let (x, w) = (numbers(1, most * k), numbers(2, m * k));
    let all = bits(&multiply(stream, dtype, [most, m, k], [&x, &w])?);
    let mut verdict = Verdict::Agreed { compared: all.len() };
    for (i, length) in boundaries(most).into_iter().enumerate() {
        // Wherever the rows stand among the others.
        let from = (most - length) * (i % 7) / 6;
        let got = bits(&multiply(stream, dtype, [length, m, k], [&x[from * k..(from + length) * k], &w])?);
        let differs = got.iter().zip(&all[from * m..]).position(|(a, b)| a != b);
        if let Some(index) = differs {
            let [got, expected] = [got[index], all[from * m + index]].map(f64::from_bits);
            let message =
                format!("{length} rows: element {index} is {got}, among {most} rows it is {expected}");
            verdict = Verdict::Failed {
                output: "y",
                index: Some(index),
                got: Some(got),
                expected: Some(expected),
                message,
            };
            break;
        }
    }
    let case = format!("1 to {most} rows of K={k}, M={m}");
    Ok(Finding { check: "product_rows", case, dtype, on: super::core(stream), verdict })
}

/// y [N, M] in the accumulator's dtype, which shows every bit of the sums.
fn multiply(
    stream: &Stream,
    dtype: DType,
    [n, m, k]: [usize; 3],
    [x, w]: [&[f64]; 2],
) -> Result<Vec<f64>, BenchError> {
    let tensor = |dtype, dims| Tensor::on(stream.device(), dtype, dims);
    let (mut a, mut b) = (tensor(dtype, dims![N: n, C: k])?, tensor(dtype, dims![N: m, C: k])?);
    a.view_mut().write_f64(x.iter().copied())?;
    b.view_mut().write_f64(w.iter().copied())?;
    let mut y = tensor(dtype.accumulator(), dims![N: n, C: m])?;
    product::forward(stream, a.view(), b.view(), y.view_mut(), Write::Set)?;
    Ok(y.view().read()?)
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// One below, at and one above every 2^i and 3 2^i from 8 to `most`: every tile ends at one of them.
fn boundaries(most: usize) -> Vec<usize> {
    let ends = (0..).map(|i| 8 << i).take_while(|end| *end <= most);
    let near = ends.flat_map(|end| [end, end * 3 / 2]).flat_map(|end| [end - 1, end, end + 1]);
    let mut all: Vec<usize> = [1].into_iter().chain(near).filter(|rows| *rows <= most).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether y = x wᵀ and yᵀ = w xᵀ have the same bits: what is called the weights stands elsewhere in a tensor core's tile.
pub(super) fn exchanged(stream: &Stream) -> Result<Finding, BenchError> {
    let [n, m, k] = [64, 4096, 1160];
    let (x, w) = (numbers(1, n * k), numbers(2, m * k));
    let y = bits(&multiply(stream, DType::BF16, [n, m, k], [&x, &w])?);
    let turned = bits(&multiply(stream, DType::BF16, [m, n, k], [&w, &x])?);
    let differ = (0..n * m).filter(|i| y[*i] != turned[i % m * n + i / m]).count();
    let verdict = Verdict::Fact { differ, of: n * m };
    let case = format!("N={n} M={m} K={k}");
    Ok(Finding { check: "exchanged_operands", case, dtype: DType::BF16, on: super::core(stream), verdict })
}

/// Whether both kinds of tensor-core instruction give the same bits, where the device has both.
pub(super) fn cores(cuda: &Cuda) -> Result<Option<Finding>, BenchError> {
    if cuda.capability()[0] != 9 {
        return Ok(None);
    }
    let [n, m, k] = [1409, 1416, 1160];
    let (x, w) = (numbers(1, n * k), numbers(2, m * k));
    let of = |cuda: Cuda| {
        let stream = Stream::new(Device::Cuda(cuda));
        Ok::<_, BenchError>(bits(&multiply(&stream, DType::BF16, [n, m, k], [&x, &w])?))
    };
    let (own, portable) = (of(cuda.clone())?, of(cuda.limited_to([8, 0]))?);
    let differ = own.iter().zip(&portable).filter(|(a, b)| a != b).count();
    let verdict = Verdict::Fact { differ, of: n * m };
    let case = format!("N={n} M={m} K={k}");
    Ok(Some(Finding { check: "mma_sync_against_wgmma", case, dtype: DType::BF16, on: None, verdict }))
}
