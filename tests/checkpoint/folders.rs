//! A folder against its configuration: shapes, indices, tied copies, values.

use half::{bf16, f16};
use patarm::checkpoint::{CheckpointError, Expected, Fault, ModelFolder, Scan, Tied};
use patarm::dims;
use patarm::tensor::{DType, Dims, Tensor};

use super::{fault, file, folder};

fn one(name: &str, dtype: &str, count: usize, data: &[u8]) -> Vec<u8> {
    let end = data.len();
    file(&format!(r#"{{"{name}":{{"dtype":"{dtype}","shape":[{count}],"data_offsets":[0,{end}]}}}}"#), data)
}

fn expected(name: &str, dims: Dims) -> Expected {
    Expected { name: name.into(), dims }
}

fn index(map: &[(&str, &str)]) -> Vec<u8> {
    let map: serde_json::Map<_, _> = map.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string().into_bytes()
}

/// Loads a vector stored as `dtype` into one of type `out`.
fn load(dtype: &str, data: &[u8], count: usize, out: DType) -> Result<Vec<f64>, CheckpointError> {
    let folder = folder(&[("model.safetensors", &one("w", dtype, count, data))]);
    let mut tensor = Tensor::zeros(out, dims![C: count]);
    ModelFolder::open(folder.path())?.read("w", tensor.view_mut(), Scan::Finite)?;
    Ok(tensor.view().to_f64())
}

#[test]
fn a_missing_an_unexpected_and_a_misshapen_tensor_are_named() {
    let folder = folder(&[("model.safetensors", &one("w", "F32", 3, &[0; 12]))]);
    let open = ModelFolder::open(folder.path()).expect("a sound file");
    let check = |list: &[Expected]| open.check(list, None);
    assert!(check(&[expected("w", dims![C: 3])]).is_ok());
    let (tensor, why) = fault(check(&[expected("w", dims![C: 4])]).expect_err("another shape"));
    assert_eq!((tensor.as_str(), why), ("w", Fault::Shape { found: vec![3], expected: "[C=4]".into() }));
    assert!(check(&[expected("w", dims![C: 3, F: 1])]).is_err(), "the same count is not the same shape");
    let both = [expected("w", dims![C: 3]), expected("x", dims![C: 1])];
    assert_eq!(fault(check(&both).expect_err("x is missing")), ("x".into(), Fault::Missing));
    assert_eq!(fault(check(&[]).expect_err("w has no place")), ("w".into(), Fault::Unexpected));
}

#[test]
fn integers_are_no_weights() {
    let folder = folder(&[("model.safetensors", &one("w", "U32", 1, &[0; 4]))]);
    let open = ModelFolder::open(folder.path()).expect("a sound file");
    assert!(open.check(&[expected("w", dims![C: 1])], None).is_err());
}

#[test]
fn an_index_that_leaves_the_folder_or_names_no_file_is_refused() {
    let sound = one("w", "F32", 1, &[0; 4]);
    for outside in ["../w.safetensors", "/w.safetensors", "a/w.safetensors", "..", ".", ""] {
        let folder =
            folder(&[("model.safetensors.index.json", &index(&[("w", outside)])), ("w.safetensors", &sound)]);
        let error = ModelFolder::open(folder.path()).expect_err("outside");
        assert!(error.to_string().contains("outside the folder"), "{error}");
    }
    let folder = folder(&[("model.safetensors.index.json", &index(&[("w", "gone.safetensors")]))]);
    let error = ModelFolder::open(folder.path()).expect_err("missing");
    assert!(error.to_string().contains("gone.safetensors"), "{error}");
}

#[test]
fn an_index_and_its_files_must_tell_the_same() {
    let (a, b) = (one("a", "F32", 1, &[0; 4]), one("b", "F32", 1, &[0; 4]));
    let open = |map: &[(&str, &str)]| {
        let folder =
            folder(&[("model.safetensors.index.json", &index(map)), ("1", &a), ("2", &b), ("3", &a)]);
        ModelFolder::open(folder.path()).map(|_| ())
    };
    assert!(open(&[("a", "1"), ("b", "2")]).is_ok());
    assert_eq!(
        fault(open(&[("a", "2")]).expect_err("b is not in the index")),
        ("b".into(), Fault::Unexpected)
    );
    assert_eq!(fault(open(&[("a", "1"), ("c", "1")]).expect_err("c")), ("c".into(), Fault::Missing));
    assert_eq!(
        fault(open(&[("a", "1"), ("b", "2"), ("d", "3")]).expect_err("a twice")),
        ("a".into(), Fault::Twice)
    );
}

#[test]
fn a_tied_head_may_be_stored_if_it_equals_the_embedding() {
    let header = |second: &str| {
        let entry = |at: usize| format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":[{at},{}]}}"#, at + 4);
        format!(r#"{{"embed":{},"{second}":{}}}"#, entry(0), entry(4))
    };
    let check = |second: &str, data: [f32; 2]| {
        let bytes = file(&header(second), bytemuck::bytes_of(&data));
        let folder = folder(&[("model.safetensors", &bytes)]);
        let open = ModelFolder::open(folder.path()).expect("a sound file");
        open.check(&[expected("embed", dims![C: 1])], Some(Tied { name: "head", of: "embed" }))
    };
    assert!(check("head", [2.0, 2.0]).is_ok());
    assert_eq!(fault(check("head", [2.0, 2.5]).expect_err("differs")).1, Fault::Untied("embed".into()));
    assert_eq!(fault(check("other", [2.0, 2.0]).expect_err("unknown")).1, Fault::Unexpected);
}

#[test]
fn a_value_that_is_not_finite_is_named_with_its_place() {
    for (bad, out) in [(f32::NAN, DType::F32), (f32::INFINITY, DType::F64), (f32::MAX, DType::BF16)] {
        let data = [1.0, 2.0, bad];
        let (tensor, why) = fault(load("F32", bytemuck::bytes_of(&data), 3, out).expect_err("not finite"));
        assert_eq!(tensor, "w");
        assert!(matches!(why, Fault::NotFinite { index: 2, .. }), "{why}");
    }
    let folder = folder(&[("model.safetensors", &one("w", "F32", 1, &f32::NAN.to_le_bytes()))]);
    let mut out = Tensor::zeros(DType::F32, dims![C: 1]);
    let open = ModelFolder::open(folder.path()).expect("a sound header");
    open.read("w", out.view_mut(), Scan::Skip).expect("the caller asked for no scan");
    assert!(out.view().to_f64()[0].is_nan());
}

#[test]
fn the_place_of_a_bad_value_is_told_behind_any_number_of_good_ones() {
    for place in [0, 4095, 4096, 9000, 9999] {
        let mut data = vec![bf16::ONE; 10_000];
        data[place] = bf16::NEG_INFINITY;
        let error =
            load("BF16", bytemuck::cast_slice(&data), data.len(), DType::F32).expect_err("not finite");
        assert_eq!(fault(error).1, Fault::NotFinite { index: place, value: f64::NEG_INFINITY });
    }
}

#[test]
fn every_half_and_every_bfloat16_is_read_exactly() {
    for (dtype, value) in [
        ("F16", (|b| f16::from_bits(b).to_f64()) as fn(u16) -> f64),
        ("BF16", |b| bf16::from_bits(b).to_f64()),
    ] {
        let bits: Vec<u16> = (0..=u16::MAX).filter(|&b| value(b).is_finite()).collect();
        for out in [DType::F32, DType::F64] {
            let loaded = load(dtype, bytemuck::cast_slice(&bits), bits.len(), out).expect("all finite");
            let same = loaded.iter().zip(&bits).all(|(x, &b)| x.to_bits() == value(b).to_bits());
            assert!(same, "{dtype} as {out:?}");
        }
    }
}

#[test]
fn a_float64_is_rounded_once_to_the_nearest_even_bfloat16() {
    let (one, up) = (1.0, 1.0 + 2f64.powi(-7));
    let middle = 1.0 + 2f64.powi(-8);
    let crumb = 2f64.powi(-40);
    let cases = [
        (middle, one),
        (middle + crumb, up),
        (middle - crumb, one),
        (middle + 2f64.powi(-23), up),
        (up + 2f64.powi(-8), up + 2f64.powi(-7)),
        (-middle - crumb, -up),
        (crumb * crumb, crumb * crumb),
        (1e-60, 0.0),
    ];
    for (x, nearest) in cases {
        assert_eq!(load("F64", &x.to_le_bytes(), 1, DType::BF16).expect("finite"), [nearest], "{x:e}");
    }
    let (_, why) =
        fault(load("F64", &3.399e38f64.to_le_bytes(), 1, DType::BF16).expect_err("bfloat16 ends at 3.39e38"));
    assert_eq!(why, Fault::NotFinite { index: 0, value: 3.399e38 });
}

#[test]
fn float32_to_bfloat16_is_the_nearest_even_for_any_bits() {
    let values: Vec<f32> =
        (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9) & 0xfeff_ffff)).collect();
    let values: Vec<f32> =
        values.into_iter().filter(|x| x.is_finite() && bf16::from_f32(*x).is_finite()).collect();
    let loaded = load("F32", bytemuck::cast_slice(&values), values.len(), DType::BF16).expect("finite");
    assert!(loaded.iter().zip(&values).all(|(x, &v)| x.to_bits() == bf16::from_f32(v).to_f64().to_bits()));
}

#[test]
fn end_tokens_come_from_the_generation_config_first() {
    let weights = one("w", "F32", 1, &[0; 4]);
    let tokens = |files: &[(&str, &[u8])]| {
        let folder = folder(&[&[("model.safetensors", weights.as_slice())], files].concat());
        ModelFolder::open(folder.path()).expect("sound").end_tokens()
    };
    assert_eq!(tokens(&[]), [7]);
    assert_eq!(tokens(&[("generation_config.json", b"{\"eos_token_id\": [5, 6]}")]), [5, 6]);
    assert_eq!(tokens(&[("generation_config.json", b"{}")]), [7]);
}

#[test]
fn a_folder_of_pickles_is_refused() {
    let folder = folder(&[("pytorch_model.bin", b"\x80\x02")]);
    let error = ModelFolder::open(folder.path()).expect_err("no weights that are read");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}
