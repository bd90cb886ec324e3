use patarm::device::Stream;
use patarm::dims;
use patarm::ops::attention::{self, Keys, Source, Span};
use patarm::tensor::{DType, Tensor};

use super::attention_plain::{self as plain, Case, Inputs};
use super::differences::{self, weighted};
use super::tensors::{Output, bits, rounded, stored_numbers, stream, tensor_on};
use super::tolerance::{self, Exact};

pub(crate) fn case(heads: usize, kv_heads: usize, d: usize, spans: &[(usize, Option<usize>)]) -> Case {
    Case { heads, kv_heads, d, spans: spans.to_vec() }
}

/// Small ones, whose every slope can be taken.
fn small() -> Vec<Case> {
    vec![
        case(1, 1, 2, &[(1, None)]),
        case(3, 3, 5, &[(7, None)]),
        case(4, 2, 8, &[(5, None), (3, Some(0)), (1, None), (6, Some(0))]),
        case(6, 1, 3, &[(2, None), (0, None), (3, Some(0)), (2, Some(2)), (4, Some(0))]),
        case(2, 1, 128, &[(4, None), (9, None)]),
    ]
}

/// Large enough for many tiles and several chunks.
fn large() -> Vec<Case> {
    vec![
        case(1, 1, 64, &[(33, None), (31, None), (1, None)]),
        case(4, 2, 31, &[(127, None), (67, Some(0)), (31, None), (131, Some(0)), (2, Some(2))]),
        case(4, 4, 16, &[(257, None)]),
        case(3, 1, 32, &[(255, None), (64, Some(0)), (1, Some(0)), (263, Some(0))]),
    ]
}

pub(crate) fn forward(stream: &Stream, dtype: DType, case: &Case, qkv: [&[f64]; 3]) -> [Vec<f64>; 2] {
    let Case { heads, kv_heads, d, .. } = *case;
    let n = case.rows();
    let q = tensor_on(stream, dtype, qkv[0], dims![N: n, H: heads, D: d]);
    let [k, v] = [qkv[1], qkv[2]].map(|x| tensor_on(stream, dtype, x, dims![N: n, KVH: kv_heads, D: d]));
    let mut out = Output::unknown_on(stream, dtype, q.dims());
    let mut lse = Output::unknown_on(stream, dtype.accumulator(), dims![N: n, H: heads]);
    let keys = Keys::Packed { k: k.view(), v: v.view() };
    attention::forward(stream, q.view(), keys, &case.spans(), out.view(), lse.view()).unwrap();
    [out.values(), lse.values()]
}

pub(crate) fn backward(stream: &Stream, dtype: DType, case: &Case, inputs: &Inputs) -> [Vec<f64>; 3] {
    let Case { heads, kv_heads, d, .. } = *case;
    let (rows, key_rows) =
        (dims![N: case.rows(), H: heads, D: d], dims![N: case.rows(), KVH: kv_heads, D: d]);
    let [q, dout, out] = [&inputs.q, &inputs.dout, &inputs.out].map(|x| tensor_on(stream, dtype, x, rows));
    let [k, v] = [&inputs.k, &inputs.v].map(|x| tensor_on(stream, dtype, x, key_rows));
    let lse = tensor_on(stream, dtype.accumulator(), &inputs.lse, dims![N: case.rows(), H: heads]);
    let spans = case.spans();
    let read = attention::Backward {
        dout: dout.view(),
        q: q.view(),
        k: k.view(),
        v: v.view(),
        out: out.view(),
        lse: lse.view(),
        spans: &spans,
    };
    let [mut dq, mut dk, mut dv] =
        [rows, key_rows, key_rows].map(|dims| Output::unknown_on(stream, dtype, dims));
    attention::backward(stream, read, dq.view(), dk.view(), dv.view()).unwrap();
    [dq.values(), dk.values(), dv.values()]
}

/// Random inputs; out and lse are the f64 body's, rounded to what stores them.
pub(crate) fn inputs(dtype: DType, case: &Case) -> Inputs {
    let [q, dout] = [1, 2].map(|seed| stored_numbers(dtype, seed, case.q_len()));
    let [k, v] = [3, 4].map(|seed| stored_numbers(dtype, seed, case.k_len()));
    let q = rounded(dtype, &q.iter().map(|x| 4.0 * x).collect::<Vec<_>>());
    let [out, lse] = forward(&stream(1), DType::F64, case, [&q, &k, &v]);
    Inputs { out: rounded(dtype, &out), lse: rounded(dtype.accumulator(), &lse), q, k, v, dout }
}

#[test]
fn gradients_are_the_slopes_of_the_forward() {
    let stream = stream(1);
    for case in small() {
        let inputs = inputs(DType::F64, &case);
        let Inputs { q, k, v, dout, .. } = &inputs;
        let [dq, dk, dv] = backward(&stream, DType::F64, &case, &inputs);
        let loss = |q: &[f64], k: &[f64], v: &[f64]| {
            weighted(&forward(&stream, DType::F64, &case, [q, k, v])[0], dout)
        };
        differences::hold("q", q, &dq, |q| loss(q, k, v));
        differences::hold("k", k, &dk, |k| loss(q, k, v));
        differences::hold("v", v, &dv, |v| loss(q, k, v));
    }
}

#[test]
fn the_f64_bodies_follow_the_definition() {
    for case in small().into_iter().chain(large()) {
        let inputs = inputs(DType::F64, &case);
        let qkv = [&inputs.q[..], &inputs.k, &inputs.v];
        let got = forward(&stream(2), DType::F64, &case, qkv);
        let gradients = backward(&stream(2), DType::F64, &case, &inputs);
        let expected = plain::forward::<f64>(&case, qkv);
        let slopes = plain::backward::<f64>(&case, &inputs, false);
        for (got, expected) in got.iter().zip(&expected).chain(gradients.iter().zip(&slopes)) {
            let near = got.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-12 * (1.0 + b.abs()));
            assert!(near && got.len() == expected.len(), "{case:?}");
        }
    }
}

#[test]
fn f32_and_bf16_are_as_near_to_f64_as_the_plain_form() {
    for dtype in [DType::F32, DType::BF16] {
        for case in small().into_iter().chain(large()) {
            let inputs = inputs(dtype, &case);
            let qkv = [&inputs.q[..], &inputs.k, &inputs.v];
            let values = forward(&stream(1), DType::F64, &case, qkv);
            let terms = plain::forward_terms(&case, qkv, &values[1]);
            let got =
                forward(&stream(2), dtype, &case, qkv).into_iter().zip(plain::forward::<f32>(&case, qkv));
            for (((got, plain), (values, terms)), stored) in
                got.zip(values.into_iter().zip(terms)).zip([dtype, DType::F32])
            {
                let plain = rounded(stored, &plain);
                tolerance::hold("attention", &got, &plain, &Exact { values, terms }, stored);
            }
            let values = backward(&stream(1), DType::F64, &case, &inputs);
            let terms = plain::backward::<f64>(&case, &inputs, true);
            let plain = plain::backward::<f32>(&case, &inputs, false);
            let got = backward(&stream(2), dtype, &case, &inputs).into_iter().zip(plain);
            for ((got, plain), (values, terms)) in got.zip(values.into_iter().zip(terms)) {
                tolerance::hold("gradient", &got, &rounded(dtype, &plain), &Exact { values, terms }, dtype);
            }
        }
    }
}

#[test]
fn neither_threads_nor_neighbours_change_a_bit_of_the_gradients() {
    for dtype in [DType::F32, DType::BF16] {
        let alone = large().remove(1);
        let inputs = inputs(dtype, &alone);
        let expected = backward(&stream(1), dtype, &alone, &inputs).map(|x| bits(&x));
        for threads in [2, 3] {
            let got = backward(&stream(threads), dtype, &alone, &inputs).map(|x| bits(&x));
            assert!(got == expected, "{threads} threads");
        }
        let shift = |span: &(usize, Option<usize>)| (span.0, span.1.map(|parent| parent + 1));
        let mut packed = alone.clone();
        packed.spans =
            [(13, None)].into_iter().chain(alone.spans.iter().map(shift)).chain([(5, Some(0))]).collect();
        let surrounded = |own: &[f64], row: usize| {
            [&stored_numbers(dtype, 7, 13 * row)[..], own, &stored_numbers(dtype, 8, 5 * row)].concat()
        };
        let (wide, narrow) = (alone.heads * alone.d, alone.kv_heads * alone.d);
        let around = Inputs {
            q: surrounded(&inputs.q, wide),
            k: surrounded(&inputs.k, narrow),
            v: surrounded(&inputs.v, narrow),
            dout: surrounded(&inputs.dout, wide),
            out: surrounded(&inputs.out, wide),
            lse: surrounded(&inputs.lse, alone.heads),
        };
        let got = backward(&stream(2), dtype, &packed, &around);
        for ((got, expected), row) in got.iter().zip(&expected).zip([wide, narrow, narrow]) {
            assert!(bits(&got[13 * row..got.len() - 5 * row]) == *expected, "beside neighbours");
        }
    }
}

#[test]
fn spans_that_do_not_fit_are_refused() {
    let q = Tensor::zeros(DType::F32, dims![N: 4, H: 2, D: 4]);
    let k = Tensor::zeros(DType::F32, dims![N: 4, KVH: 1, D: 4]);
    let refused = |spans: &[(std::ops::Range<usize>, usize, Option<usize>)]| {
        let mut out = Tensor::zeros(DType::F32, q.dims());
        let mut lse = Tensor::zeros(DType::F32, dims![N: 4, H: 2]);
        let one = |(queries, start, parent): &(std::ops::Range<usize>, usize, Option<usize>)| Span {
            queries: queries.clone(),
            start: *start,
            source: Source::Packed { parent: *parent },
        };
        let spans: Vec<Span> = spans.iter().map(one).collect();
        let keys = Keys::Packed { k: k.view(), v: k.view() };
        attention::forward(&stream(1), q.view(), keys, &spans, out.view_mut(), lse.view_mut()).is_err()
    };
    assert!(!refused(&[(0..1, 0, None), (1..4, 1, Some(0))]));
    assert!(refused(&[(0..3, 0, None)]), "a row is left");
    assert!(refused(&[(0..5, 0, None)]), "a row too many");
    assert!(refused(&[(0..2, 0, None), (3..4, 0, None)]), "a gap");
    assert!(refused(&[(0..2, 0, None), (2..4, 1, Some(0))]), "not at the parent's end");
    assert!(refused(&[(0..2, 0, Some(1)), (2..4, 0, None)]), "a parent that comes later");
    assert!(refused(&[(0..4, 2, None)]), "keys before the first");
}
