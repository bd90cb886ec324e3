use patarm::dims;
use patarm::ops::embedding;
use patarm::tensor::{DType, Tensor};

use super::tensors::{Output, bits, numbers, stored_numbers, stream, tensor};

/// (vocabulary, columns, tokens)
const CASES: [(usize, usize, usize); 4] = [(1, 1, 1), (7, 3, 31), (33, 31, 33), (101, 64, 257)];

fn tokens(vocabulary: usize, count: usize) -> Vec<u32> {
    numbers(9, count).iter().map(|x| ((x + 1.0) / 2.0 * vocabulary as f64) as u32).collect()
}

#[test]
fn every_token_gets_its_row_and_gives_its_gradient_back_in_order() {
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        for (v, c, n) in CASES {
            let (ids, sum) = (tokens(v, n), dtype.accumulator());
            let table = stored_numbers(dtype, 1, v * c);
            let (dout, old) = (stored_numbers(dtype, 2, n * c), stored_numbers(sum, 3, v * c));
            let id_tensor = Tensor::from_ids(&ids, dims![N: n]);
            let (mut out, mut expected) = (Output::new(dtype, dims![N: n, C: c]), old.clone());
            let table_tensor = tensor(dtype, &table, dims![V: v, C: c]);
            embedding::forward(&stream(2), table_tensor.view(), id_tensor.view(), out.view()).unwrap();
            let rows: Vec<f64> =
                ids.iter().flat_map(|&id| table[id as usize * c..][..c].iter().copied()).collect();
            assert_eq!(out.values(), rows);
            for (row, &id) in dout.chunks(c).zip(&ids) {
                for (to, x) in expected[id as usize * c..][..c].iter_mut().zip(row) {
                    *to = if sum == DType::F64 { *to + x } else { f64::from(*to as f32 + *x as f32) };
                }
            }
            for threads in [1, 2, 3] {
                let mut dtable = Output::holding(sum, &old, dims![V: v, C: c]);
                let dout = tensor(dtype, &dout, dims![N: n, C: c]);
                embedding::backward(&stream(threads), dout.view(), id_tensor.view(), dtable.view()).unwrap();
                assert_eq!(bits(&dtable.values()), bits(&expected), "{dtype:?} {threads} threads");
            }
        }
    }
}

#[test]
fn a_token_outside_the_table_is_an_error_that_names_it() {
    let table = Tensor::zeros(DType::F32, dims![V: 5, C: 2]);
    let ids = Tensor::from_ids(&[4, 5], dims![N: 2]);
    let mut out = Tensor::zeros(DType::F32, dims![N: 2, C: 2]);
    let error = embedding::forward(&stream(1), table.view(), ids.view(), out.view_mut()).unwrap_err();
    assert_eq!(error.to_string(), "embedding_forward: token 5 at row 1: there are 5");
}
