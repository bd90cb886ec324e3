//! Row 9 of the conformance table: a header that lies is refused, with the tensor's name, before anything of its size exists.

use patarm::checkpoint::{CheckpointError, Fault, ModelFolder};
use proptest::prelude::*;

use super::{fault, file, folder, refused};

fn message(bytes: &[u8]) -> String {
    let error = refused(bytes);
    assert!(matches!(error, CheckpointError::Malformed { .. }), "{error}");
    error.to_string()
}

/// A header of tensors given as (name, dtype, shape, start, end).
fn header(tensors: &[(&str, &str, &str, u64, u64)]) -> String {
    let entry = |(name, dtype, shape, start, end): &(&str, &str, &str, u64, u64)| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    format!("{{{}}}", tensors.iter().map(entry).collect::<Vec<_>>().join(","))
}

#[test]
fn a_header_of_more_than_100_mb_is_refused_by_its_length_alone() {
    let mut bytes = file("{}", &[]);
    bytes[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    assert!(message(&bytes).contains("100000001"));
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(message(&bytes).contains("is the most"));
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let whole = file(&header(&[("w", "F32", "[2,3]", 0, 24)]), &[0; 24]);
    assert!(ModelFolder::open(folder(&[("model.safetensors", &whole)]).path()).is_ok());
    for end in 0..whole.len() {
        refused(&whole[..end]);
    }
    let (tensor, why) = fault(refused(&whole[..whole.len() - 1]));
    assert_eq!((tensor.as_str(), why), ("w", Fault::PastEnd { end: 24, data: 23 }));
}

#[test]
fn what_is_no_safetensors_header_is_refused() {
    assert!(message(&file(" {}", &[])).contains("does not start with `{`"));
    assert!(message(&file("{", &[])).contains("no valid JSON"));
    assert!(message(&file("{\"w\":{\"dtype\":\"F32\"}}", &[])).contains("no valid JSON"));
    assert!(message(&file("{\"w\":\u{1}}", &[])).contains("no valid JSON"));
    let nested = format!("{{\"w\":{}", "[".repeat(100_000));
    assert!(message(&file(&nested, &[])).contains("no valid JSON"));
    assert!(message(&file("{}", &[0; 4])).contains("belong to no tensor"));
}

#[test]
fn overlapping_tensors_are_refused() {
    let header = header(&[("a", "F32", "[2]", 0, 8), ("b", "F32", "[2]", 4, 12)]);
    assert_eq!(fault(refused(&file(&header, &[0; 12]))), ("b".into(), Fault::Overlap("a".into())));
}

#[test]
fn a_hole_between_tensors_is_refused() {
    let header = header(&[("a", "F32", "[1]", 0, 4), ("b", "F32", "[1]", 8, 12)]);
    assert_eq!(fault(refused(&file(&header, &[0; 12]))), ("b".into(), Fault::Hole(4)));
}

#[test]
fn a_shape_whose_product_overflows_is_refused() {
    let header = header(&[("a", "F32", "[4294967296,4294967296,4]", 0, 4)]);
    let (tensor, why) = fault(refused(&file(&header, &[0; 4])));
    assert_eq!(tensor, "a");
    assert!(matches!(why, Fault::Overflow(_)), "{why}");
}

#[test]
fn offsets_that_disagree_with_shape_and_dtype_are_refused() {
    let of =
        |shape, start, end| fault(refused(&file(&header(&[("a", "F32", shape, start, end)]), &[0; 8]))).1;
    assert_eq!(of("[3]", 0, 8), Fault::Length { found: 8, needed: 12 });
    assert_eq!(of("[2]", 8, 0), Fault::Backwards(8, 0));
    assert_eq!(
        of("[1000000000000]", 0, 4_000_000_000_000),
        Fault::PastEnd { end: 4_000_000_000_000, data: 8 }
    );
    assert_eq!(of("[2]", u64::MAX - 8, u64::MAX), Fault::PastEnd { end: u64::MAX, data: 8 });
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let header = header(&[("a", "F32", "[1]", 0, 4), ("a", "F32", "[1]", 4, 8)]);
    assert_eq!(fault(refused(&file(&header, &[0; 8]))), ("a".into(), Fault::Twice));
}

#[test]
fn a_dtype_that_is_not_read_here_is_refused_by_name() {
    let header = header(&[("ids", "I64", "[1]", 0, 8)]);
    assert_eq!(fault(refused(&file(&header, &[0; 8]))), ("ids".into(), Fault::Dtype("I64".into())));
}

#[test]
fn empty_tensors_may_share_an_offset_and_metadata_is_skipped() {
    let tensors =
        header(&[("a", "F32", "[0,3]", 0, 0), ("b", "F32", "[0]", 0, 0), ("c", "BF16", "[]", 0, 2)]);
    let with = format!("{{\"__metadata__\":{{\"format\":\"pt\"}},{}   ", &tensors[1..]);
    let folder = folder(&[("model.safetensors", &file(&with, &[0; 2]))]);
    assert!(ModelFolder::open(folder.path()).is_ok());
}

proptest! {
    #[test]
    fn a_damaged_header_is_refused_or_read_inside_the_file(at in 0usize..200, byte: u8, cut in 0usize..250) {
        let mut bytes = file(&header(&[("a", "F32", "[2,3]", 0, 24), ("b", "F16", "[7]", 24, 38)]), &[1; 38]);
        let index = at % bytes.len();
        bytes[index] = byte;
        bytes.truncate(bytes.len().saturating_sub(cut % 40));
        let folder = folder(&[("model.safetensors", &bytes)]);
        if let Ok(open) = ModelFolder::open(folder.path()) {
            for name in ["a", "b"] {
                let mut out = patarm::tensor::Tensor::zeros(patarm::tensor::DType::F32, patarm::dims![V: 2, C: 3]);
                let _ = open.read(name, out.view_mut(), patarm::checkpoint::Scan::Skip);
            }
        }
    }
}
