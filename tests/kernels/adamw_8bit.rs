//! Moments in codes of 8 bits: the maps, blocks of them, and updates that run on what they stand for.

use patarm::device::{Float, Stream};
use patarm::dims;
use patarm::ops::adamw::codes::{BLOCK, Map};
use patarm::ops::adamw::{AdamW, Param, Rounding, step};
use patarm::ops::philox::Key;
use patarm::tensor::{DType, Tensor};

use super::adamw::settings;
use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, numbers, stored_numbers, stream, tensor, tensor_on};

/// The maps as bitsandbytes and torchao write their recipe down: signed, unsigned.
fn golden() -> [Vec<f64>; 2] {
    let text = include_str!("../golden/dynamic_map.json");
    let mut maps: std::collections::HashMap<String, Vec<f64>> = serde_json::from_str(text).unwrap();
    ["signed", "unsigned"].map(|name| maps.remove(name).unwrap())
}

#[test]
fn codes_stand_for_the_numbers_of_the_published_recipe() {
    let (wide, narrow) = ([Map::<f64>::signed(), Map::unsigned()], [Map::<f32>::signed(), Map::unsigned()]);
    for ((golden, wide), narrow) in golden().iter().zip(wide).zip(narrow) {
        assert_eq!(golden.len(), 256);
        for (code, number) in (0..=255).zip(golden) {
            assert!((wide.number(code) - number).abs() <= 1e-15 * number.abs(), "{code}");
            // Start and place are rounded, each up to ten times as large as the number.
            assert!((f64::from(narrow.number(code)) - number).abs() <= 2e-6 * number.abs(), "{code}");
        }
    }
}

#[test]
fn the_code_is_that_of_the_nearest_number() {
    fn hold<A: Float>(map: &Map<A>, golden: &[f64], x: f64, unit: f64) {
        let near = golden.iter().map(|number| (number - x).abs()).fold(f64::INFINITY, f64::min);
        let got = (map.number(map.code(A::from_f64(x))).to_f64() - x).abs();
        assert!(got <= near + unit * x.abs(), "{x}: {got} away, {near} would be right");
    }
    let [signed, unsigned] = golden();
    for (i, x) in numbers(6, 20_000).into_iter().enumerate() {
        let x = x * 10f64.powi(-(i as i32 % 9));
        hold(&Map::<f64>::signed(), &signed, x, 1e-14);
        hold(&Map::<f32>::signed(), &signed, x, 4e-6);
        hold(&Map::<f64>::unsigned(), &unsigned, x.abs(), 1e-14);
        hold(&Map::<f32>::unsigned(), &unsigned, x.abs(), 4e-6);
    }
    for (code, number) in (0..=255).zip(&signed) {
        assert_eq!(Map::<f32>::signed().code(*number as f32), code);
    }
    assert_eq!([-1.0, 0.0, 1.0].map(|x| Map::<f64>::signed().code(x)), [0, 127, 255]);
    assert_eq!([0.0, 1.0].map(|x| Map::<f64>::unsigned().code(x)), [0, 255]);
}

/// Half of the widest gap between numbers: what coding may cost a block's elements, in units of its scale.
fn half_gap(numbers: &[f64]) -> f64 {
    0.5 * numbers.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

#[test]
fn a_blocks_elements_stay_within_half_a_gap_of_their_map() {
    let [signed, unsigned] = golden();
    for (seed, size) in [(1, BLOCK), (2, 7), (3, 1)] {
        for magnitude in [1e-30, 1.0, 1e30] {
            let values: Vec<f32> = numbers(seed, size).iter().map(|x| (x * magnitude) as f32).collect();
            let squares: Vec<f32> = values.iter().map(|x| x.abs()).collect();
            let maps = [(Map::signed(), &values, &signed), (Map::unsigned(), &squares, &unsigned)];
            for (map, values, golden) in maps {
                let (mut codes, mut out) = (vec![9; size], vec![0.0; size]);
                let scale = map.close(values, &mut codes);
                assert_eq!(scale, values.iter().fold(0.0, |most: f32, x| most.max(x.abs())));
                map.open(&codes, scale, &mut out);
                let allowed = (half_gap(golden) + 4e-6) * f64::from(scale);
                assert!(values.iter().zip(&out).all(|(a, b)| f64::from((a - b).abs()) <= allowed));
            }
        }
    }
}

#[test]
fn blocks_of_zeros_or_of_no_normal_number_are_zeros() {
    for x in [0.0, f32::MIN_POSITIVE / 2.0] {
        for map in [Map::signed(), Map::unsigned()] {
            let (mut codes, mut out) = ([9; 40], [1.0; 40]);
            assert_eq!(map.close(&[x; 40], &mut codes), 0.0);
            map.open(&codes, 0.0, &mut out);
            assert_eq!(out, [0.0; 40]);
        }
    }
}

#[test]
fn a_second_moment_above_zero_stays_above_zero_beside_any_other() {
    let map = Map::<f32>::unsigned();
    let (mut codes, mut out) = ([9; 3], [0.0; 3]);
    let scale = map.close(&[1.0, 1e-30, 0.0], &mut codes);
    map.open(&codes, scale, &mut out);
    assert_eq!((out[0], codes[2]), (1.0, 0));
    assert!((out[1] - 3.25e-7).abs() < 1e-12);
}

#[test]
fn an_element_that_is_not_finite_shows_in_its_blocks_scale() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for map in [Map::signed(), Map::unsigned()] {
            let mut codes = [0; 5];
            let scale = map.close(&[1.0, 2.0, bad, 3.0, 4.0], &mut codes);
            assert!(!scale.is_finite());
            let mut out = [0.0; 5];
            map.open(&codes, scale, &mut out);
            assert!(out.iter().any(|x| !x.is_finite()));
        }
    }
}

/// Codes where `stream` runs.
fn codes_on(stream: &Stream, codes: &[u8]) -> Tensor {
    let mut tensor = Tensor::on(stream.device(), DType::U8, dims![N: codes.len()]).unwrap();
    let fill = |bytes: &mut [u8]| -> Result<(), patarm::device::DeviceError> {
        bytes.copy_from_slice(codes);
        Ok(())
    };
    tensor.view_mut().write_bytes(fill).unwrap();
    tensor
}

fn blocks(dtype: DType, values: &[f64]) -> [Tensor; 2] {
    [tensor(dtype, values, dims![Blocks: values.len()]), tensor(dtype, values, dims![Blocks: values.len()])]
}

#[test]
fn an_update_is_the_wide_one_of_the_numbers_that_its_codes_stand_for() {
    fn hold<A: Float + patarm::tensor::Element<Acc = A>>(threads: usize, n: usize) {
        let dtype = A::DTYPE;
        let (stream, w) = (stream(threads), stored_numbers(dtype, 1, n));
        let g = tensor(dtype, &stored_numbers(dtype, 2, n), dims![N: n]);
        let codes: Vec<u8> = numbers(3, n).iter().map(|x| (x * 127.0 + 128.0) as u8).collect();
        let scales = stored_numbers(dtype, 4, n.div_ceil(BLOCK)).iter().map(|x| x.abs()).collect::<Vec<_>>();
        let (maps, scaled) = ([Map::<A>::signed(), Map::unsigned()], blocks(dtype, &scales));
        let mut open = [vec![A::ZERO; n], vec![A::ZERO; n]];
        for (map, open) in maps.iter().zip(&mut open) {
            for (i, out) in open.chunks_mut(BLOCK).enumerate() {
                map.open(&codes[i * BLOCK..], A::from_f64(scales[i]), out);
            }
        }
        let [m, v] = open.map(|values| Tensor::from_slice(&values, dims![N: n]));
        let (mut wide, mut coded) = (tensor(dtype, &w, dims![N: n]), Output::holding(dtype, &w, dims![N: n]));
        let ([mut m, mut v], mut held) = ([m, v], [codes_on(&stream, &codes), codes_on(&stream, &codes)]);
        let [mut m_scales, mut v_scales] = scaled;
        let param = Param {
            w: wide.view_mut(),
            g: g.view(),
            m: m.view_mut(),
            v: v.view_mut(),
            scales: None,
            master: None,
        };
        step(&stream, param, &settings(2)).unwrap();
        let scales = Some([m_scales.view_mut(), v_scales.view_mut()]);
        let [to_m, to_v] = held.each_mut().map(Tensor::view_mut);
        let param = Param { w: coded.view(), g: g.view(), m: to_m, v: to_v, scales, master: None };
        step(&stream, param, &settings(2)).unwrap();
        assert_eq!(bits(&coded.values()), bits(&wide.view().to_f64()));
        let (moments, scales) = ([m, v], [m_scales, v_scales]);
        for (k, map) in maps.iter().enumerate() {
            for (i, values) in moments[k].view().host::<A>().chunks(BLOCK).enumerate() {
                let mut codes = vec![0; values.len()];
                assert_eq!(map.close(values, &mut codes), scales[k].view().host::<A>()[i]);
                assert_eq!(&held[k].view().codes()[i * BLOCK..][..values.len()], codes);
            }
        }
    }
    for n in [1, 255, 256, 257, 997, 40_009] {
        for threads in [1, 3] {
            hold::<f32>(threads, n);
            hold::<f64>(threads, n);
        }
    }
}

#[test]
fn codes_without_scales_and_scales_of_another_count_are_refused() {
    let [mut w, g] = [(); 2].map(|()| tensor(DType::F32, &[0.0; 300], dims![N: 300]));
    let [mut m, mut v] = [(); 2].map(|()| codes_on(&stream(1), &[0; 300]));
    for count in [0, 1, 3] {
        let mut held = blocks(DType::F32, &vec![0.0; count]);
        let scales = (count > 0).then(|| held.each_mut().map(Tensor::view_mut));
        let (m, v) = (m.view_mut(), v.view_mut());
        let param = Param { w: w.view_mut(), g: g.view(), m, v, scales, master: None };
        assert!(step(&stream(1), param, &settings(1)).is_err(), "{count}");
    }
}

/// How the kernels keep weights.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kept {
    Nearest,
    Stochastic,
    Master,
}

/// w, master copy and scales, and codes, after two steps from zero moments where `stream` runs.
fn two_steps(stream: &Stream, kept: Kept, n: usize) -> ([Vec<u64>; 4], [Vec<u8>; 2]) {
    let on = |dtype, seed| Output::on(stream, dtype, &stored_numbers(dtype, seed, n), dims![N: n]);
    // Magnitudes of many decades, and blocks without a gradient.
    let g: Vec<f64> = (0..n).zip(numbers(2, n)).map(|(i, x)| x * 10f64.powi(-((i % 11) as i32))).collect();
    let g: Vec<f64> = g.iter().enumerate().map(|(i, g)| if i / BLOCK % 4 == 2 { 0.0 } else { *g }).collect();
    let g = tensor_on(stream, DType::F32, &g, dims![N: n]);
    let (mut w, mut master) = (on(DType::BF16, 1), on(DType::F32, 5));
    let mut codes = [(); 2].map(|()| codes_on(stream, &vec![7; n]));
    let zeros = vec![0.0; n.div_ceil(BLOCK)];
    let mut scales = [(); 2].map(|()| Output::on(stream, DType::F32, &zeros, dims![Blocks: zeros.len()]));
    for count in 1..=2 {
        let rounding = match kept {
            Kept::Stochastic => Rounding::Stochastic(Key::of_update(7, count, 1)),
            _ => Rounding::Nearest,
        };
        let master = (kept == Kept::Master).then(|| master.view());
        let ([m, v], scales) =
            (codes.each_mut().map(Tensor::view_mut), Some(scales.each_mut().map(Output::view)));
        let param = Param { w: w.view(), g: g.view(), m, v, scales, master };
        step(stream, param, &AdamW { rounding, ..settings(count) }).unwrap();
    }
    let [m_scales, v_scales] = scales;
    let codes = codes.map(|codes| codes.view().read_bytes().unwrap().into_owned());
    ([w, master, m_scales, v_scales].map(|output| bits(&output.values())), codes)
}

#[test]
fn the_kernels_give_the_hosts_bits_for_any_number_of_elements() {
    for kept in [Kept::Nearest, Kept::Stochastic, Kept::Master] {
        for n in [1, 7, 8, 31, 255, 256, 257, 997, 2_049, 4_100] {
            let host = two_steps(&stream(1), kept, n);
            for schedule in SCHEDULES {
                assert!(two_steps(&on_cpu::stream(schedule), kept, n) == host, "{kept:?} {n} {schedule}");
            }
        }
    }
}

#[test]
fn the_kernels_show_a_moment_that_is_not_finite_in_its_blocks_scale() {
    let stream = on_cpu::stream(0);
    let mut g = numbers(2, 600);
    g[300] = f64::INFINITY;
    let g = tensor_on(&stream, DType::F32, &g, dims![N: 600]);
    let mut w = tensor_on(&stream, DType::BF16, &numbers(1, 600), dims![N: 600]);
    let [mut m, mut v] = [(); 2].map(|()| codes_on(&stream, &[0; 600]));
    let mut scales = [(); 2].map(|()| tensor_on(&stream, DType::F32, &[0.0; 3], dims![Blocks: 3]));
    let (held, [m, v]) = (Some(scales.each_mut().map(Tensor::view_mut)), [m.view_mut(), v.view_mut()]);
    let param = Param { w: w.view_mut(), g: g.view(), m, v, scales: held, master: None };
    step(&stream, param, &settings(1)).unwrap();
    for scales in &scales {
        assert_eq!(
            scales.view().read().unwrap().iter().map(|x| x.is_finite()).collect::<Vec<_>>(),
            [true, false, true]
        );
    }
}

/// An interval that holds a number.
type Held = [f64; 2];

/// Weights of Adam on the sum of w^2 / 2, each between bounds: moments lose at most `loss` of themselves whenever they are kept.
fn enclosed(start: &[f64], config: &AdamW, steps: u64, loss: f64) -> Vec<Held> {
    let after = |start: &f64| {
        let (mut w, mut m, mut v): (Held, Held, Held) = ([*start; 2], [0.0; 2], [0.0; 2]);
        for t in 1..=steps as i32 {
            let root = (1.0 - config.beta2.powi(t)).sqrt();
            let lr = config.lr / (1.0 - config.beta1.powi(t));
            for k in 0..2 {
                m[k] = config.beta1 * m[k] + (1.0 - config.beta1) * w[k];
                v[k] = config.beta2 * v[k] + (1.0 - config.beta2) * w[k] * w[k];
            }
            assert!(m[0] > 0.0 && w[0] > 0.0, "all is above zero, so that bounds follow from bounds");
            w = [0, 1].map(|k| w[k] - lr * m[1 - k] / (v[k].sqrt() / root + config.eps));
            for moment in [&mut m, &mut v] {
                *moment = [moment[0] * (1.0 - loss), moment[1] * (1.0 + loss)];
            }
        }
        w
    };
    start.iter().map(after).collect()
}

#[test]
fn an_optimisation_with_codes_stays_as_near_to_the_wide_one_as_its_maps_allow() {
    let (n, steps) = (600, 25);
    let start: Vec<f64> = stored_numbers(DType::F32, 8, n).iter().map(|x| 0.85 + 0.15 * x).collect();
    let config = AdamW { lr: 0.004, weight_decay: 0.0, grad_scale: 1.0, beta2: 0.9, ..settings(1) };
    // Elements are at least 0.7 of the largest at the start, 0.6 at the end: moments 0.6, and 0.36 of their blocks' largest.
    let [signed, unsigned] = golden();
    let loss = (half_gap(&signed) / 0.6).max(half_gap(&unsigned) / 0.36) + 1e-5;
    let bounds = enclosed(&start, &config, steps, loss);
    let run = |coded: bool| {
        let stream = stream(1);
        let (mut w, zeros) = (tensor(DType::F32, &start, dims![N: n]), vec![0.0; n]);
        let mut wide = [(); 2].map(|()| tensor(DType::F32, &zeros, dims![N: n]));
        let mut codes = [(); 2].map(|()| codes_on(&stream, &vec![0; n]));
        let mut scales = blocks(DType::F32, &zeros[..n.div_ceil(BLOCK)]);
        for step_of in 1..=steps {
            let g = tensor(DType::F32, &w.view().to_f64(), dims![N: n]);
            let [m, v] = if coded { &mut codes } else { &mut wide }.each_mut().map(Tensor::view_mut);
            let scales = coded.then(|| scales.each_mut().map(Tensor::view_mut));
            let param = Param { w: w.view_mut(), g: g.view(), m, v, scales, master: None };
            step(&stream, param, &AdamW { step: step_of, ..config }).unwrap();
        }
        w.view().to_f64()
    };
    let [wide, coded] = [run(false), run(true)];
    assert!(wide != coded);
    for (i, [low, high]) in bounds.iter().enumerate() {
        let moved = start[i] - wide[i];
        assert!(high - low < 0.5 * moved, "bounds that say something: {low} to {high}, moved {moved}");
        assert!([wide[i], coded[i]].iter().all(|w| low - 1e-5 <= *w && *w <= high + 1e-5), "{i}");
    }
}
