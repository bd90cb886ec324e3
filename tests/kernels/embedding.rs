use patarm::device::Stream;
use patarm::dims;
use patarm::ops::embedding;
use patarm::tensor::{DType, Tensor};

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, expect_trap, ids_on, numbers, stored_numbers, stream, tensor_on};

/// (vocabulary, columns, tokens)
const CASES: [(usize, usize, usize); 4] = [(1, 1, 1), (7, 3, 31), (33, 31, 33), (101, 64, 257)];

fn tokens(vocabulary: usize, count: usize) -> Vec<u32> {
    numbers(9, count).iter().map(|x| ((x + 1.0) / 2.0 * vocabulary as f64) as u32).collect()
}

/// Rows as they are, and gradients added in ascending order to the bit, wherever the streams run.
fn hold(streams: &[Stream], dtype: DType, (v, c, n): (usize, usize, usize)) {
    let (ids, sum) = (tokens(v, n), dtype.accumulator());
    let table = stored_numbers(dtype, 1, v * c);
    let (dout, old) = (stored_numbers(dtype, 2, n * c), stored_numbers(sum, 3, v * c));
    let rows: Vec<f64> = ids.iter().flat_map(|&id| table[id as usize * c..][..c].iter().copied()).collect();
    let mut expected = old.clone();
    for (row, &id) in dout.chunks(c).zip(&ids) {
        for (to, x) in expected[id as usize * c..][..c].iter_mut().zip(row) {
            *to = if sum == DType::F64 { *to + x } else { f64::from(*to as f32 + *x as f32) };
        }
    }
    for stream in streams {
        let (ids, table) = (ids_on(stream, &ids), tensor_on(stream, dtype, &table, dims![V: v, C: c]));
        let mut out = Output::on(stream, dtype, &vec![0.0; n * c], dims![N: n, C: c]);
        embedding::forward(stream, table.view(), ids.view(), out.view()).unwrap();
        assert_eq!(out.values(), rows);
        let mut dtable = Output::on(stream, sum, &old, dims![V: v, C: c]);
        let dout = tensor_on(stream, dtype, &dout, dims![N: n, C: c]);
        embedding::backward(stream, dout.view(), ids.view(), dtable.view()).unwrap();
        assert_eq!(bits(&dtable.values()), bits(&expected), "{dtype:?} of {v}, {c}, {n}");
    }
}

#[test]
fn every_token_gets_its_row_and_gives_its_gradient_back_in_order() {
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        CASES.iter().for_each(|case| hold(&[1, 2, 3].map(stream), dtype, *case));
    }
}

#[test]
fn the_kernels_do_the_same_to_the_bit() {
    let streams = SCHEDULES.map(on_cpu::stream);
    // The smallest last: what a launch leaves in the scratch memory must not reach the next.
    for case in [(101, 1032, 257), (3, 4104, 70), (33, 64, 33), (7, 24, 31), (1, 8, 9), (1, 8, 1)] {
        hold(&streams, DType::BF16, case);
    }
}

#[test]
fn a_token_outside_the_table_stops_the_kernels() {
    let stream = on_cpu::stream(0);
    let table = tensor_on(&stream, DType::BF16, &[0.0; 40], dims![V: 5, C: 8]);
    let mut dtable = Output::on(&stream, DType::F32, &[0.0; 40], dims![V: 5, C: 8]);
    let mut out = Output::on(&stream, DType::BF16, &[0.0; 16], dims![N: 2, C: 8]);
    let (ids, dout) =
        (ids_on(&stream, &[4, 5]), tensor_on(&stream, DType::BF16, &[0.0; 16], dims![N: 2, C: 8]));
    expect_trap(&stream, embedding::forward(&stream, table.view(), ids.view(), out.view()));
    expect_trap(&stream, embedding::backward(&stream, dout.view(), ids.view(), dtable.view()));
}

#[test]
fn a_token_outside_the_table_is_an_error_that_names_it() {
    let table = Tensor::zeros(DType::F32, dims![V: 5, C: 2]);
    let ids = Tensor::from_ids(&[4, 5], dims![N: 2]);
    let mut out = Tensor::zeros(DType::F32, dims![N: 2, C: 2]);
    let error = embedding::forward(&stream(1), table.view(), ids.view(), out.view_mut()).unwrap_err();
    assert_eq!(error.to_string(), "embedding_forward: token 5 at row 1: there are 5");
}
