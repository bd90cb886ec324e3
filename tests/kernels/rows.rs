use patarm::device::Stream;
use patarm::dims;
use patarm::ops::rows;
use patarm::tensor::DType;

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, expect_trap, ids_on, rounded, stored_numbers, stream, tensor_on};

/// (rows of x, columns, picks)
type Case = (usize, usize, usize);

/// Every row at most once, in ascending order; or at random.
#[derive(Clone, Copy, Debug)]
enum Picks {
    Ascending,
    Random,
}

fn picks((n, _, m): Case, how: Picks) -> Vec<u32> {
    let pick = |i: usize| match how {
        Picks::Ascending => i * n / m,
        Picks::Random => i * i * 37 % n,
    };
    (0..m).map(|i| pick(i) as u32).collect()
}

/// copy, gather and scatter, to the bit.
fn hold(stream: &Stream, dtype: DType, case: Case, how: Picks) {
    let ((n, c, m), names) = (case, picks(case, how));
    let (x, dy) = (stored_numbers(dtype, 1, n * c), stored_numbers(dtype, 2, m * c));
    let mut sums = vec![0f32; n * c];
    for (row, dy) in names.iter().zip(dy.chunks(c)) {
        sums[*row as usize * c..][..c].iter_mut().zip(dy).for_each(|(sum, dy)| *sum += *dy as f32);
    }
    let sums = rounded(dtype, &sums.into_iter().map(f64::from).collect::<Vec<_>>());
    let gathered: Vec<f64> = names.iter().flat_map(|row| x[*row as usize * c..][..c].to_vec()).collect();
    let (ids, blank) = (ids_on(stream, &names), |rows: usize| vec![7.0; rows * c]);
    let [from, dy] =
        [(&x, n), (&dy, m)].map(|(values, rows)| tensor_on(stream, dtype, values, dims![N: rows, C: c]));
    let mut y = Output::on(stream, dtype, &blank(m), dims![N: m, C: c]);
    rows::gather(stream, from.view(), ids.view(), y.view()).unwrap();
    assert_eq!(y.values(), gathered, "{case:?} {how:?}");
    let mut dx = Output::on(stream, dtype, &blank(n), dims![N: n, C: c]);
    rows::scatter(stream, dy.view(), ids.view(), dx.view()).unwrap();
    assert_eq!(bits(&dx.values()), bits(&sums), "{case:?} {how:?}");
    rows::copy(stream, from.view(), dx.view()).unwrap();
    assert_eq!(dx.values(), x);
}

#[test]
fn rows_are_copied_gathered_and_added_back_in_order() {
    for dtype in [DType::F32, DType::BF16] {
        for case in [(1, 1, 1), (131, 3, 7), (33, 31, 33), (5, 7, 301)] {
            [Picks::Ascending, Picks::Random].into_iter().for_each(|how| hold(&stream(2), dtype, case, how));
        }
    }
}

#[test]
fn the_kernels_do_the_same_to_the_bit() {
    for schedule in SCHEDULES {
        let stream = on_cpu::stream(schedule);
        for case in [(5, 64, 301), (131, 24, 7), (33, 1032, 33), (64, 4104, 20), (1, 8, 1)] {
            [Picks::Ascending, Picks::Random]
                .into_iter()
                .for_each(|how| hold(&stream, DType::BF16, case, how));
        }
    }
}

#[test]
fn a_row_that_x_does_not_have_stops_the_kernels() {
    let stream = on_cpu::stream(0);
    let x = tensor_on(&stream, DType::BF16, &[0.0; 40], dims![N: 5, C: 8]);
    let (ids, dy) = (ids_on(&stream, &[5]), tensor_on(&stream, DType::BF16, &[0.0; 8], dims![N: 1, C: 8]));
    let mut y = Output::on(&stream, DType::BF16, &[0.0; 8], dims![N: 1, C: 8]);
    let mut dx = Output::on(&stream, DType::BF16, &[0.0; 40], dims![N: 5, C: 8]);
    expect_trap(&stream, rows::gather(&stream, x.view(), ids.view(), y.view()));
    expect_trap(&stream, rows::scatter(&stream, dy.view(), ids.view(), dx.view()));
}
