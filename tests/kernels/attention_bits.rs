//! One sequence's attention, computed in every way that the program computes it: the same bits.

use std::ops::Range;
use std::sync::Arc;

use patarm::device::Stream;
use patarm::dims;
use patarm::ops::attention::{self, Keys, Source, Span};
use patarm::ops::kv_append;
use patarm::tensor::{DType, Dims, Tensor, View};

use super::tensors::{Output, bits, stored_numbers, stream, tensor};

const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const D: usize = 32;
const LAYERS: usize = 2;
const LENGTHS: [usize; 8] = [1, 63, 64, 65, 255, 256, 257, 600];

/// A sequence's queries, keys and values, and the bits of out and lse that one packed span gives.
struct Sequence {
    dtype: DType,
    len: usize,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    expected: Bits,
}

type Bits = [Vec<u64>; 2];

impl Sequence {
    fn new(dtype: DType, len: usize, seed: u64) -> Self {
        let random =
            |seed, heads: usize, dims| tensor(dtype, &stored_numbers(dtype, seed, len * heads * D), dims);
        let q = random(seed, HEADS, dims![N: len, H: HEADS, D: D]);
        let [k, v] = [1, 2].map(|i| random(seed + i, KV_HEADS, dims![N: len, KVH: KV_HEADS, D: D]));
        let mut sequence = Self { dtype, len, q, k, v, expected: [Vec::new(), Vec::new()] };
        sequence.expected = sequence.packed(&stream(1), &[(0..len, 0, None)]);
        sequence
    }

    fn packed(&self, stream: &Stream, spans: &[(Range<usize>, usize, Option<usize>)]) -> Bits {
        let one = |(queries, start, parent): &(Range<usize>, usize, Option<usize>)| Span {
            queries: queries.clone(),
            start: *start,
            source: Source::Packed { parent: *parent },
        };
        let spans: Vec<Span> = spans.iter().map(one).collect();
        attend(stream, self.q.view(), Keys::Packed { k: self.k.view(), v: self.v.view() }, &spans)
    }
}

fn attend(stream: &Stream, q: View<'_>, keys: Keys<'_>, spans: &[Span]) -> Bits {
    let mut out = Output::new(q.dtype(), q.dims());
    let mut lse = Output::new(q.dtype().accumulator(), dims![N: q.dims().rows(), H: HEADS]);
    attention::forward(stream, q, keys, spans, out.view(), lse.view()).unwrap();
    [bits(&out.values()), bits(&lse.values())]
}

/// Rows of both outputs.
fn rows(all: &Bits, rows: Range<usize>) -> Bits {
    [HEADS * D, HEADS].map(|wide| (wide, rows.start * wide..rows.end * wide)).map(|(wide, range)| {
        let which = usize::from(wide == HEADS);
        all[which][range].to_vec()
    })
}

/// A cache full of NaN, in which `sequence` has blocks in no order.
struct Cache {
    pool: Tensor,
    blocks: Arc<[u32]>,
}

impl Cache {
    fn new(dtype: DType, len: usize) -> Self {
        let count = len.div_ceil(kv_append::BLOCK);
        let dims = dims![L: LAYERS, Blocks: 2 * count + 1, Pair: 2, KVH: KV_HEADS, S: kv_append::BLOCK, D: D];
        let pool = tensor(dtype, &vec![f64::NAN; dims.count()], dims);
        let blocks = (0..count).map(|i| 2 * ((i * 7 + 3) % count.max(1)) as u32 + 1);
        let mut blocks: Vec<u32> = blocks.collect();
        if count.is_multiple_of(7) {
            blocks = (0..count as u32).rev().collect();
        }
        Self { pool, blocks: blocks.into() }
    }

    /// Appends the keys of `rows`, then attends from them.
    fn step(&mut self, stream: &Stream, sequence: &Sequence, rows: Range<usize>) -> Bits {
        let slot =
            |row: usize| self.blocks[row / kv_append::BLOCK] * kv_append::BLOCK as u32 + (row % 64) as u32;
        let slots: Vec<u32> = rows.clone().map(slot).collect();
        let slots = Tensor::from_ids(&slots, dims![N: rows.len()]);
        let (k, v) = (sequence.k.rows(rows.clone()), sequence.v.rows(rows.clone()));
        kv_append::forward(stream, k, v, self.pool.view_mut(), 1, slots.view()).unwrap();
        let source = Source::Paged { blocks: self.blocks.clone() };
        let span = Span { queries: 0..rows.len(), start: rows.start, source };
        attend(stream, sequence.q.rows(rows), Keys::Paged { pool: self.pool.view(), layer: 1 }, &[span])
    }
}

fn each_sequence(f: impl Fn(&Sequence, &Stream)) {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        for (i, len) in LENGTHS.into_iter().enumerate() {
            f(&Sequence::new(dtype, len, 100 * i as u64), &stream(1 + i % 3));
        }
    }
}

#[test]
fn decoding_one_by_one_gives_the_packed_bits() {
    each_sequence(|sequence, stream| {
        let mut cache = Cache::new(sequence.dtype, sequence.len);
        for row in 0..sequence.len {
            let got = cache.step(stream, sequence, row..row + 1);
            assert!(got == rows(&sequence.expected, row..row + 1), "{:?} row {row}", sequence.dtype);
        }
    });
}

#[test]
fn prefill_in_pieces_gives_the_packed_bits() {
    each_sequence(|sequence, stream| {
        for piece in [1000, 256, 77] {
            let mut cache = Cache::new(sequence.dtype, sequence.len);
            for start in (0..sequence.len).step_by(piece) {
                let piece = start..sequence.len.min(start + piece);
                let got = cache.step(stream, sequence, piece.clone());
                assert!(got == rows(&sequence.expected, piece), "{:?} from {start}", sequence.dtype);
            }
        }
    });
}

#[test]
fn a_prompt_packed_once_gives_each_continuation_the_same_bits() {
    each_sequence(|sequence, stream| {
        let len = sequence.len;
        for cut in [1, 31, 255, 256, 257, len - 1].into_iter().filter(|&cut| cut > 0 && cut < len) {
            let got = sequence.packed(stream, &[(0..cut, 0, None), (cut..len, cut, Some(0))]);
            assert!(got == sequence.expected, "{:?} {len} cut at {cut}", sequence.dtype);
        }
    });
}

#[test]
fn threads_and_neighbours_change_no_bit() {
    for dtype in [DType::F32, DType::BF16] {
        let sequences = [257, 1, 64, 31].map(|len| Sequence::new(dtype, len, len as u64));
        let join = |part: fn(&Sequence) -> &Tensor, dims: Dims| {
            let all: Vec<f64> = sequences.iter().flat_map(|s| part(s).view().to_f64()).collect();
            tensor(dtype, &all, dims)
        };
        let n = sequences.iter().map(|s| s.len).sum();
        let q = join(|s| &s.q, dims![N: n, H: HEADS, D: D]);
        let [k, v] = [(|s| &s.k) as fn(&Sequence) -> &Tensor, |s| &s.v]
            .map(|part| join(part, dims![N: n, KVH: KV_HEADS, D: D]));
        let mut spans: Vec<Span> = Vec::new();
        for sequence in &sequences {
            let from = spans.last().map_or(0, |span| span.queries.end);
            let source = Source::Packed { parent: None };
            spans.push(Span { queries: from..from + sequence.len, start: 0, source });
        }
        for threads in [1, 2, 3] {
            let keys = Keys::Packed { k: k.view(), v: v.view() };
            let got = attend(&stream(threads), q.view(), keys, &spans);
            for (sequence, span) in sequences.iter().zip(&spans) {
                assert!(rows(&got, span.queries.clone()) == sequence.expected, "{threads} threads, {span:?}");
            }
        }
    }
}

#[test]
fn a_batch_of_decoding_sequences_gives_each_its_own_bits() {
    for dtype in [DType::F32, DType::BF16] {
        let sequence = Sequence::new(dtype, 300, 5);
        let mut cache = Cache::new(dtype, 300);
        cache.step(&stream(1), &sequence, 0..300);
        let positions = [0, 63, 64, 255, 256, 299];
        let all = sequence.q.view().to_f64();
        let q: Vec<f64> = positions.iter().flat_map(|p| all[p * HEADS * D..][..HEADS * D].to_vec()).collect();
        let q = tensor(dtype, &q, dims![N: positions.len(), H: HEADS, D: D]);
        let span = |(row, &start): (usize, &usize)| {
            let source = Source::Paged { blocks: cache.blocks.clone() };
            Span { queries: row..row + 1, start, source }
        };
        let spans: Vec<Span> = positions.iter().enumerate().map(span).collect();
        let keys = Keys::Paged { pool: cache.pool.view(), layer: 1 };
        let got = attend(&stream(2), q.view(), keys, &spans);
        for (row, position) in positions.into_iter().enumerate() {
            assert!(
                rows(&got, row..row + 1) == rows(&sequence.expected, position..position + 1),
                "{position}"
            );
        }
    }
}

#[test]
fn one_flipped_bit_of_a_seen_key_is_noticed_and_of_an_unseen_one_is_not() {
    let mut sequence = Sequence::new(DType::F32, 300, 5);
    let key = &mut sequence.k.rows_mut(200..201).host_mut::<f32>()[3];
    *key = f32::from_bits(key.to_bits() ^ (1 << 20));
    let got = sequence.packed(&stream(1), &[(0..300, 0, None)]);
    assert!(rows(&got, 0..200) == rows(&sequence.expected, 0..200));
    assert!((200..300).all(|row| rows(&got, row..row + 1) != rows(&sequence.expected, row..row + 1)));
}
