use patarm::device::Stream;
use patarm::dims;
use patarm::ops::rope::{self, Table};
use patarm::tensor::{Arena, DType, Tensor};

use super::differences::{self, weighted};
use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, expect_trap, ids_on, numbers, rounded, stored_numbers, stream};
use super::tolerance::{self, Exact};

const THETA: f64 = 1e6;
const POSITIONS: usize = 700;

/// (tokens, heads, dims)
const CASES: [(usize, usize, usize); 5] = [(1, 1, 2), (31, 3, 6), (33, 1, 62), (7, 5, 64), (127, 2, 128)];

#[derive(Clone, Copy)]
enum Way {
    Forward,
    Back,
}

fn positions(n: usize) -> Vec<u32> {
    numbers(5, n).iter().map(|x| ((x + 1.0) / 2.0 * POSITIONS as f64) as u32).collect()
}

fn table(stream: &Stream, dtype: DType, d: usize) -> Table {
    let mut plan = Arena::planned("rope");
    Table::new(POSITIONS, d, THETA, dtype, &mut plan).unwrap();
    let mut arena = Arena::new("rope", stream.device(), plan.peak());
    Table::new(POSITIONS, d, THETA, dtype, &mut arena).unwrap()
}

fn turned(stream: &Stream, dtype: DType, way: Way, x: &[f64], (n, h, d): (usize, usize, usize)) -> Vec<f64> {
    let mut x = Output::on(stream, dtype, x, dims![N: n, H: h, D: d]);
    let (positions, table) = (ids_on(stream, &positions(n)), table(stream, dtype, d));
    match way {
        Way::Forward => rope::forward(stream, x.view(), positions.view(), &table),
        Way::Back => rope::backward(stream, x.view(), positions.view(), &table),
    }
    .unwrap();
    x.values()
}

/// The rotation in f64, from its definition, and each element's terms.
fn plain(x: &[f64], (n, h, d): (usize, usize, usize)) -> Exact {
    let (mut values, mut terms) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for (token, position) in positions(n).into_iter().enumerate() {
        for head in 0..h {
            for i in 0..d {
                let (pair, sign) = if i < d / 2 { (i + d / 2, -1.0) } else { (i - d / 2, 1.0) };
                let angle = f64::from(position) / THETA.powf(2.0 * (i % (d / 2)) as f64 / d as f64);
                let row = (token * h + head) * d;
                let parts = [x[row + i] * angle.cos(), sign * x[row + pair] * angle.sin()];
                (values[row + i], terms[row + i]) = (parts[0] + parts[1], parts[0].abs() + parts[1].abs());
            }
        }
    }
    Exact { values, terms }
}

#[test]
fn pairs_turn_by_their_frequency_times_the_position() {
    for case in CASES {
        let x = numbers(1, case.0 * case.1 * case.2);
        let (got, exact) = (turned(&stream(2), DType::F64, Way::Forward, &x, case), plain(&x, case));
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
        assert!(got.iter().zip(&exact.values).all(near), "{case:?}");
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_forward() {
    for case in CASES {
        let len = case.0 * case.1 * case.2;
        let (x, dout) = (numbers(1, len), numbers(2, len));
        let dx = turned(&stream(2), DType::F64, Way::Back, &dout, case);
        differences::hold("x", &x, &dx, |x| {
            weighted(&turned(&stream(2), DType::F64, Way::Forward, x, case), &dout)
        });
    }
}

#[test]
fn f32_and_bf16_are_as_near_to_f64_as_one_rounding_of_each_product_allows() {
    for dtype in [DType::F32, DType::BF16] {
        for case in CASES {
            let x = stored_numbers(dtype, 1, case.0 * case.1 * case.2);
            let exact = plain(&x, case);
            let nearest = rounded(dtype, &exact.values);
            tolerance::hold(
                "rope",
                &turned(&stream(2), dtype, Way::Forward, &x, case),
                &nearest,
                &exact,
                dtype,
            );
        }
    }
}

#[test]
fn the_kernels_are_as_near_to_f64_as_one_rounding_of_each_product_allows() {
    for case in [(1, 1, 16), (31, 3, 32), (33, 5, 64), (7, 8, 128)] {
        let x = stored_numbers(DType::BF16, 1, case.0 * case.1 * case.2);
        let exact = plain(&x, case);
        let nearest = rounded(DType::BF16, &exact.values);
        for schedule in SCHEDULES {
            let got = turned(&on_cpu::stream(schedule), DType::BF16, Way::Forward, &x, case);
            tolerance::hold("rope", &got, &nearest, &exact, DType::BF16);
        }
    }
}

#[test]
fn the_kernels_give_the_hosts_bits() {
    for case in [(1, 1, 16), (31, 3, 32), (33, 5, 64), (7, 8, 128)] {
        let x = stored_numbers(DType::BF16, 1, case.0 * case.1 * case.2);
        for way in [Way::Forward, Way::Back] {
            let [host, kernel] =
                [stream(1), on_cpu::stream(1)].map(|s| turned(&s, DType::BF16, way, &x, case));
            assert_eq!(bits(&host), bits(&kernel), "{case:?}");
        }
    }
}

#[test]
fn a_position_outside_the_table_stops_the_kernel() {
    let stream = on_cpu::stream(0);
    let mut x = Output::on(&stream, DType::BF16, &[0.0; 16], dims![N: 1, H: 1, D: 16]);
    let positions = ids_on(&stream, &[POSITIONS as u32]);
    let table = table(&stream, DType::BF16, 16);
    expect_trap(&stream, rope::forward(&stream, x.view(), positions.view(), &table));
}

#[test]
fn a_position_outside_the_table_is_an_error() {
    let mut x = Tensor::zeros(DType::F32, dims![N: 1, H: 1, D: 4]);
    let positions = Tensor::from_ids(&[POSITIONS as u32], dims![N: 1]);
    assert!(
        rope::forward(&stream(1), x.view_mut(), positions.view(), &table(&stream(1), DType::F32, 4)).is_err()
    );
}
