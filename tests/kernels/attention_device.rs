//! Attention's CUDA kernels, run and checked on the CPU: as near to f64 as the plain form that rounds weights to bf16, and the
//! same bits whichever way a row is computed.

use std::ops::Range;
use std::sync::Arc;

use patarm::device::Stream;
use patarm::dims;
use patarm::ops::attention::{self, Keys, Source, Span};
use patarm::tensor::{DType, Tensor};

use super::attention::{backward, case, forward, inputs};
use super::attention_plain::{self as plain, Case, Inputs};
use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, rounded, stored_numbers, stream, tensor_on};
use super::tolerance::{self, Exact};

/// Every head dim that has kernels, one key head and several, tiles and chunks with tails, continuations of continuations.
fn cases() -> Vec<Case> {
    vec![
        case(1, 1, 16, &[(1, None)]),
        case(6, 1, 64, &[(2, None), (0, None), (3, Some(0)), (2, Some(2)), (4, Some(0))]),
        case(4, 2, 32, &[(5, None), (3, Some(0)), (1, None), (6, Some(0))]),
        case(3, 1, 32, &[(255, None), (64, Some(0)), (1, Some(0)), (70, Some(0))]),
        case(4, 2, 128, &[(127, None), (67, Some(0)), (31, None), (65, Some(0)), (2, Some(2))]),
        case(2, 2, 16, &[(257, None)]),
        case(7, 1, 64, &[(131, None), (33, Some(0))]),
        case(5, 1, 128, &[(31, None), (257, None), (33, Some(1)), (1, Some(1)), (1, None)]),
        case(2, 2, 64, &[(397, None)]),
        case(2, 1, 128, &[(192, None), (64, None)]),
    ]
}

/// Of the devices whose variants differ.
const CAPABILITIES: [[u32; 2]; 2] = [[8, 0], [9, 0]];

/// Every schedule on every device.
fn devices() -> impl Iterator<Item = (u64, [u32; 2])> {
    SCHEDULES.into_iter().flat_map(|schedule| CAPABILITIES.map(|capability| (schedule, capability)))
}

/// Terms as the tolerance rule has to count them. It gives each the accumulator's unit; but a term of out and of the gradients
/// is a number times a weight that tensor cores take in bf16, so it is off by bf16's. (A plain body that rounds its weights
/// alike, with terms in f32's unit, would not do: where an element nearly cancels it is thousands of units off, and twice
/// that would allow every other element anything.)
fn of_narrow_weights(terms: Vec<f64>) -> Vec<f64> {
    terms.into_iter().map(|term| term * f64::from(1 << 16)).collect()
}

/// out and lse of the f64 body, with their terms.
fn exact_forward(case: &Case, inputs: &Inputs) -> [Exact; 2] {
    let qkv = [&inputs.q[..], &inputs.k, &inputs.v];
    let [out, lse] = forward(&stream(1), DType::F64, case, qkv);
    let [out_terms, lse_terms] = plain::forward_terms(case, qkv, &lse);
    [Exact { values: out, terms: of_narrow_weights(out_terms) }, Exact { values: lse, terms: lse_terms }]
}

#[test]
fn out_and_lse_of_a_device_are_as_near_to_f64_as_the_plain_form() {
    for (schedule, capability) in devices() {
        for case in cases() {
            let inputs = inputs(DType::BF16, &case);
            let qkv = [&inputs.q[..], &inputs.k, &inputs.v];
            let plain = plain::forward::<f32>(&case, qkv);
            let got = forward(&on_cpu::stream_of(schedule, capability), DType::BF16, &case, qkv);
            let exact = exact_forward(&case, &inputs).into_iter().zip([DType::BF16, DType::F32]);
            for ((got, plain), (exact, stored)) in got.into_iter().zip(plain).zip(exact) {
                let what = format!("{case:?} {capability:?}");
                tolerance::hold(&what, &got, &rounded(stored, &plain), &exact, stored);
            }
        }
    }
}

#[test]
fn the_tolerance_notices_a_lost_key_and_a_lost_query() {
    for case in cases().into_iter().filter(|case| case.rows() > 1) {
        let inputs = inputs(DType::BF16, &case);
        let [exact, _] = exact_forward(&case, &inputs);
        let plain = plain::forward::<f32>(&case, [&inputs.q, &inputs.k, &inputs.v]);
        let plain = rounded(DType::BF16, &plain[0]);
        let mut v = inputs.v.clone();
        v[..case.d].fill(0.0);
        let [lost, _] = plain::forward::<f32>(&case, [&inputs.q, &inputs.k, &v]);
        let lost = rounded(DType::BF16, &lost);
        assert_eq!(tolerance::breach(&plain, &plain, &exact, DType::BF16), None, "{case:?}");
        assert!(tolerance::breach(&lost, &plain, &exact, DType::BF16).is_some(), "{case:?}");

        let terms = plain::backward::<f64>(&case, &inputs, true);
        let values = backward(&stream(1), DType::F64, &case, &inputs);
        let plain = plain::backward::<f32>(&case, &inputs, false);
        let last = inputs.dout.len() - case.d;
        let mut without = Inputs { dout: inputs.dout.clone(), ..inputs };
        without.dout[last..].fill(0.0);
        let lost = plain::backward::<f32>(&case, &without, false);
        let all = values.into_iter().zip(terms).zip(plain.into_iter().zip(lost));
        let noticed = all.map(|((values, terms), (plain, lost))| {
            let exact = Exact { values, terms: of_narrow_weights(terms) };
            let [plain, lost] = [plain, lost].map(|x| rounded(DType::BF16, &x));
            assert_eq!(tolerance::breach(&plain, &plain, &exact, DType::BF16), None, "{case:?}");
            tolerance::breach(&lost, &plain, &exact, DType::BF16).is_some()
        });
        assert!(noticed.collect::<Vec<_>>().contains(&true), "{case:?}");
    }
}

#[test]
fn gradients_of_a_device_are_as_near_to_f64_as_the_plain_form() {
    for (schedule, capability) in devices() {
        for case in cases() {
            let inputs = inputs(DType::BF16, &case);
            let values = backward(&stream(1), DType::F64, &case, &inputs);
            let terms = plain::backward::<f64>(&case, &inputs, true);
            let plain = plain::backward::<f32>(&case, &inputs, false);
            let got = backward(&on_cpu::stream_of(schedule, capability), DType::BF16, &case, &inputs);
            for ((got, plain), (values, terms)) in
                got.into_iter().zip(plain).zip(values.into_iter().zip(terms))
            {
                let exact = Exact { values, terms: of_narrow_weights(terms) };
                tolerance::hold(
                    &format!("{case:?}"),
                    &got,
                    &rounded(DType::BF16, &plain),
                    &exact,
                    DType::BF16,
                );
            }
        }
    }
}

/// A sequence in packed rows, and in blocks of a cache that holds NaN elsewhere.
struct Sequence {
    case: Case,
    qkv: [Vec<f64>; 3],
    pool: Tensor,
    blocks: Arc<[u32]>,
}

type Bits = [Vec<u64>; 2];

impl Sequence {
    fn new(stream: &Stream, heads: usize, kv_heads: usize, d: usize, len: usize) -> Self {
        let numbers = |seed, heads: usize| stored_numbers(DType::BF16, seed, len * heads * d);
        let q = numbers(1, heads).iter().map(|x| 4.0 * x).collect();
        let qkv = [q, numbers(2, kv_heads), numbers(3, kv_heads)];
        let count = len.div_ceil(64);
        let blocks: Arc<[u32]> = (0..count as u32).rev().map(|i| 2 * i + 1).collect();
        let dims = dims![L: 2, Blocks: 2 * count + 1, Pair: 2, KVH: kv_heads, S: 64, D: d];
        let mut cache = vec![f64::NAN; dims.count()];
        for (row, pair) in (0..len).flat_map(|row| [(row, 0), (row, 1)]) {
            let block = 2 * count + 1 + blocks[row / 64] as usize;
            for head in 0..kv_heads {
                let at = (((block * 2 + pair) * kv_heads + head) * 64 + row % 64) * d;
                cache[at..at + d].copy_from_slice(&qkv[1 + pair][(row * kv_heads + head) * d..][..d]);
            }
        }
        let pool = tensor_on(stream, DType::BF16, &cache, dims);
        Self { case: case(heads, kv_heads, d, &[(len, None)]), qkv, pool, blocks }
    }

    fn packed(&self, stream: &Stream, spans: &[(usize, Option<usize>)]) -> Bits {
        let case = Case { spans: spans.to_vec(), ..self.case.clone() };
        forward(stream, DType::BF16, &case, self.qkv.each_ref().map(|x| &x[..])).map(|x| bits(&x))
    }

    /// Runs of queries, each a span of its own, from the cache.
    fn paged(&self, stream: &Stream, runs: &[Range<usize>]) -> Bits {
        let Case { heads, d, .. } = self.case;
        let rows = |run: &Range<usize>| &self.qkv[0][run.start * heads * d..run.end * heads * d];
        let q: Vec<f64> = runs.iter().flat_map(|run| rows(run).to_vec()).collect();
        let n = q.len() / heads / d;
        let q = tensor_on(stream, DType::BF16, &q, dims![N: n, H: heads, D: d]);
        let mut spans: Vec<Span> = Vec::new();
        for run in runs {
            let from = spans.last().map_or(0, |span| span.queries.end);
            let source = Source::Paged { blocks: self.blocks.clone() };
            spans.push(Span { queries: from..from + run.len(), start: run.start, source });
        }
        let mut out = Output::unknown_on(stream, DType::BF16, q.dims());
        let mut lse = Output::unknown_on(stream, DType::F32, dims![N: n, H: heads]);
        let keys = Keys::Paged { pool: self.pool.view(), layer: 1 };
        attention::forward(stream, q.view(), keys, &spans, out.view(), lse.view()).unwrap();
        [bits(&out.values()), bits(&lse.values())]
    }

    /// What `all`, the whole sequence's, says about some runs of it.
    fn of(&self, all: &Bits, runs: &[Range<usize>]) -> Bits {
        let Case { heads, d, .. } = self.case;
        let take = |all: &[u64], wide: usize| {
            runs.iter().flat_map(|run| all[run.start * wide..run.end * wide].to_vec()).collect()
        };
        [take(&all[0], heads * d), take(&all[1], heads)]
    }
}

/// The same bits however a sequence of `len` is cut, in packed rows and in the cache.
fn hold_every_way(stream: &Stream, [heads, kv_heads, d, len]: [usize; 4]) {
    let sequence = Sequence::new(stream, heads, kv_heads, d, len);
    let expected = sequence.packed(stream, &[(len, None)]);
    for cut in [31, len / 2, len - 1] {
        let got = sequence.packed(stream, &[(cut, None), (len - cut, Some(0))]);
        assert!(got == expected, "{:?} cut at {cut}", sequence.case);
    }
    let pieces =
        |piece: usize| (0..len).step_by(piece).map(|from| from..len.min(from + piece)).collect::<Vec<_>>();
    let alone = |row: &usize| *row < len;
    let rows = [0, 1, 62, 63, 64, 127, 128, 255, 256, 257, len - 2, len - 1].into_iter().filter(alone);
    let decoding: Vec<_> = rows.map(|row| row..row + 1).collect();
    let mixed = vec![3..70, 65..66, 100..102, 0..len];
    let end = |rows: usize| std::iter::once(len - rows..len).collect::<Vec<_>>();
    for runs in [pieces(len), pieces(77), decoding, mixed, end(1), end(70)] {
        let got = sequence.paged(stream, &runs);
        assert!(got == sequence.of(&expected, &runs), "{:?} in {runs:?}", sequence.case);
    }
}

#[test]
fn every_way_to_compute_a_row_on_a_device_gives_the_same_bits() {
    for size in [[4, 2, 128, 331], [6, 2, 32, 520], [2, 2, 16, 300], [7, 1, 64, 131]] {
        hold_every_way(&on_cpu::stream_of(1, [8, 0]), size);
    }
}

#[test]
fn every_way_gives_the_same_bits_on_warpgroups() {
    for size in [[4, 2, 128, 331], [7, 1, 64, 131], [1, 1, 64, 520], [1, 1, 128, 600]] {
        hold_every_way(&on_cpu::stream_of(1, [9, 0]), size);
    }
}

#[test]
fn no_neighbour_in_packed_rows_reaches_a_sequence_on_a_device() {
    for (capability, d) in [([8, 0], 64), ([9, 0], 64), ([9, 0], 128)] {
        let stream = on_cpu::stream_of(2, capability);
        let (alone, packed) = (case(2, 1, d, &[(45, None)]), case(2, 1, d, &[(45, None), (90, None)]));
        let own = [2, 1, 1].map(|heads| stored_numbers(DType::BF16, 3, 45 * heads * d));
        let beside = [2, 1, 1].map(|heads| vec![f64::NAN; 90 * heads * d]);
        let both: Vec<_> = own.iter().zip(&beside).map(|(own, beside)| [&own[..], beside].concat()).collect();
        let expected = forward(&stream, DType::BF16, &alone, own.each_ref().map(|x| &x[..]));
        let got = forward(&stream, DType::BF16, &packed, [&both[0], &both[1], &both[2]]);
        for (got, expected) in got.iter().zip(&expected) {
            assert!(bits(&got[..expected.len()]) == bits(expected), "{capability:?} {d}");
        }
    }
}

#[test]
fn neighbours_change_no_bit_of_a_devices_gradients() {
    CAPABILITIES.into_iter().for_each(|capability| hold_beside_neighbours(&on_cpu::stream_of(2, capability)));
}

fn hold_beside_neighbours(stream: &Stream) {
    let alone = cases().remove(4);
    let own = inputs(DType::BF16, &alone);
    let expected = backward(stream, DType::BF16, &alone, &own).map(|x| bits(&x));
    let shift = |span: &(usize, Option<usize>)| (span.0, span.1.map(|parent| parent + 1));
    let mut packed = alone.clone();
    packed.spans =
        [(13, None)].into_iter().chain(alone.spans.iter().map(shift)).chain([(5, Some(0))]).collect();
    let beside = |own: &[f64], row: usize| {
        let numbers = |seed, rows| stored_numbers(DType::BF16, seed, rows * row);
        [&numbers(7, 13)[..], own, &numbers(8, 5)].concat()
    };
    let (wide, narrow) = (alone.heads * alone.d, alone.kv_heads * alone.d);
    let around = Inputs {
        q: beside(&own.q, wide),
        k: beside(&own.k, narrow),
        v: beside(&own.v, narrow),
        dout: beside(&own.dout, wide),
        out: beside(&own.out, wide),
        lse: beside(&own.lse, alone.heads),
    };
    let got = backward(stream, DType::BF16, &packed, &around);
    for ((got, expected), row) in got.iter().zip(&expected).zip([wide, narrow, narrow]) {
        assert!(bits(&got[13 * row..got.len() - 5 * row]) == *expected);
    }
}
