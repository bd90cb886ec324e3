use patarm::device::Stream;
use patarm::dims;
use patarm::ops::bandwidth;
use patarm::tensor::{DType, Tensor};

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, ids_on, numbers, stream, tensor_on};

/// Words: one piece, less than a part, a part, and more with a tail.
const COUNTS: [usize; 5] = [4, 2048, 8188, 8192, 20_012];

fn word(x: f64) -> u32 {
    (x as f32).to_bits()
}

fn streams() -> Vec<Stream> {
    [stream(1), stream(3)].into_iter().chain(SCHEDULES.map(on_cpu::stream)).collect()
}

#[test]
fn every_word_is_read_once() {
    for n in COUNTS {
        let x = numbers(1, n);
        let expected: Vec<u32> =
            x.chunks(8192).map(|part| part.iter().fold(0, |sum, x| sum ^ word(*x))).collect();
        for stream in streams() {
            let x = tensor_on(&stream, DType::F32, &x, dims![N: n]);
            let mut sums = ids_on(&stream, &vec![7; bandwidth::parts(4 * n)]);
            bandwidth::read(&stream, x.view(), sums.view_mut()).unwrap();
            let words: Vec<u8> = sums.view().read_bytes().unwrap().into_owned();
            let expected: Vec<u8> = expected.iter().flat_map(|sum| sum.to_ne_bytes()).collect();
            assert_eq!(words, expected, "{n}");
        }
    }
}

#[test]
fn every_word_is_copied() {
    for n in COUNTS {
        let x = numbers(2, n).iter().map(|x| f64::from(*x as f32)).collect::<Vec<_>>();
        for stream in streams() {
            let from = tensor_on(&stream, DType::F32, &x, dims![N: n]);
            let mut to = Output::unknown_on(&stream, DType::F32, dims![N: n]);
            bandwidth::copy(&stream, from.view(), to.view()).unwrap();
            assert_eq!(bits(&to.values()), bits(&x), "{n}");
        }
    }
}

#[test]
fn numbers_are_spread_evenly_and_the_same_everywhere() {
    for dtype in [DType::BF16, DType::F32] {
        for n in [8, 20_008] {
            let filled = |stream: &Stream, seed| {
                let mut x = Output::unknown_on(stream, dtype, dims![N: n]);
                bandwidth::fill(stream, x.view(), seed).unwrap();
                x.values()
            };
            let expected = filled(&stream(1), 5);
            for stream in streams() {
                assert_eq!(bits(&filled(&stream, 5)), bits(&expected), "{dtype:?} {n}");
            }
            assert_ne!(filled(&stream(1), 6), expected);
            if n > 1000 {
                let mean = expected.iter().sum::<f64>() / n as f64;
                let square = expected.iter().map(|x| x * x).sum::<f64>() / n as f64;
                assert!(mean.abs() < 0.02 && (square - 1.0 / 3.0).abs() < 0.02, "{mean} {square}");
            }
        }
    }
}

#[test]
fn nothing_can_be_launched() {
    streams().iter().for_each(|stream| bandwidth::nothing(stream).unwrap());
}

#[test]
fn what_is_no_whole_number_of_pieces_is_refused() {
    let x = Tensor::zeros(DType::F32, dims![N: 3]);
    let mut sums = Tensor::from_ids(&[0], dims![N: 1]);
    let error = bandwidth::read(&stream(1), x.view(), sums.view_mut()).unwrap_err();
    assert!(error.to_string().starts_with("bandwidth_read: x is [N=3]"), "{error}");
    assert!(bandwidth::fill(&stream(1), sums.view_mut(), 1).is_err());
}
