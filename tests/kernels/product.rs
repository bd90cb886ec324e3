use patarm::device::Stream;
use patarm::dims;
use patarm::ops::{Leaves, Write, product};
use patarm::tensor::{DType, Tensor};

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, numbers, rounded, stored_numbers, tensor_on};
use super::tolerance::{self, Exact};

/// N, M and K of x [N, K], w [M, K] and y [N, M].
type Sides = [usize; 3];

/// Every kernel of the table in `kernels/product.cu`: one leaf and several, tails of every side, one row, a tile and one more.
const SIDES: [Sides; 9] = [
    [1, 8, 8],
    [7, 72, 1160],
    [16, 64, 1024],
    [17, 136, 2072],
    [33, 8, 40],
    [64, 200, 1032],
    [65, 64, 64],
    [131, 136, 1096],
    [200, 40, 72],
];
/// Tiles of 128 x 128.
const LARGE: Sides = [1409, 1416, 200];

/// Which of the three products, and what its output stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Direction {
    Forward,
    Input,
    Weight,
}

/// A product's operands, row-major, and the output's old values.
struct Case {
    direction: Direction,
    sides: Sides,
    write: Write,
    leaves: Leaves,
}

impl Case {
    fn new(direction: Direction, sides: Sides, write: Write) -> Self {
        let bounds =
            [0, 1, 1, 31, 64, 131, 200].into_iter().filter(|bound| *bound < sides[0]).chain([sides[0]]);
        let write = if direction == Direction::Weight { Write::Add } else { write };
        Self { direction, sides, write, leaves: Leaves::new(bounds.collect()) }
    }

    fn shapes(&self) -> [[usize; 2]; 3] {
        let [n, m, k] = self.sides;
        match self.direction {
            Direction::Forward => [[n, k], [m, k], [n, m]],
            Direction::Input => [[n, m], [m, k], [n, k]],
            Direction::Weight => [[n, m], [n, k], [m, k]],
        }
    }

    /// Operands in bf16, and the output's old values as `out` stores them.
    fn inputs(&self, out: DType) -> [Vec<f64>; 3] {
        let [a, b, c] = self.shapes().map(|[rows, columns]| rows * columns);
        [stored_numbers(DType::BF16, 1, a), stored_numbers(DType::BF16, 2, b), rounded(out, &numbers(3, c))]
    }

    /// The product of operands in `dtype`, onto `old`, stored in `out`.
    fn run(&self, stream: &Stream, [dtype, out]: [DType; 2], [a, b, old]: [&[f64]; 3]) -> Vec<f64> {
        let [a_shape, b_shape, shape] = self.shapes();
        let operand = |values: &[f64], [rows, columns]: [usize; 2]| -> Tensor {
            tensor_on(stream, dtype, values, dims![N: rows, C: columns])
        };
        let (a, b) = (operand(a, a_shape), operand(b, b_shape));
        let mut c = Output::on(stream, out, old, dims![N: shape[0], C: shape[1]]);
        let (a, b, view) = (a.view(), b.view(), c.view());
        match self.direction {
            Direction::Forward => product::forward(stream, a, b, view, self.write),
            Direction::Input => product::backward_input(stream, a, b, view, self.write),
            Direction::Weight => product::backward_weight(stream, a, b, &self.leaves, view),
        }
        .unwrap();
        c.values()
    }

    /// On a device, against the f64 body.
    fn check(&self, stream: &Stream, out: DType) {
        let inputs = self.inputs(out);
        let [a, b, old] = &inputs;
        let host = super::tensors::stream(1);
        let values = self.run(&host, [DType::F64; 2], [a, b, old]);
        let [a_size, b_size, old_size] =
            inputs.each_ref().map(|x| x.iter().map(|x| x.abs()).collect::<Vec<_>>());
        let terms = self.run(&host, [DType::F64; 2], [&a_size, &b_size, &old_size]);
        let plain = self.run(&host, [DType::F32; 2], [a, b, old]);
        let got = self.run(stream, [DType::BF16, out], [a, b, old]);
        let what = format!("{:?} {:?} {:?}", self.direction, self.sides, self.write);
        tolerance::hold(&what, &got, &rounded(out, &plain), &Exact { values, terms }, out);
    }
}

#[test]
fn products_on_a_device_are_as_near_to_f64_as_the_plain_form() {
    for (schedule, write) in SCHEDULES.into_iter().zip([Write::Set, Write::Add, Write::Set]) {
        let stream = on_cpu::stream(schedule);
        for sides in SIDES {
            for direction in [Direction::Forward, Direction::Input, Direction::Weight] {
                for out in [DType::BF16, DType::F32] {
                    if direction != Direction::Weight || out == DType::F32 {
                        Case::new(direction, sides, write).check(&stream, out);
                    }
                }
            }
        }
    }
}

#[test]
fn large_products_on_a_device_are_as_near_to_f64_as_the_plain_form() {
    let cases = [
        (Direction::Forward, LARGE, DType::BF16),
        (Direction::Input, [1409, 72, 1416], DType::F32),
        (Direction::Weight, [72, 1416, 1416], DType::F32),
    ];
    for (schedule, (direction, sides, out)) in SCHEDULES.into_iter().zip(cases) {
        Case::new(direction, sides, Write::Add).check(&on_cpu::stream(schedule), out);
    }
}

#[test]
fn a_rows_bits_depend_neither_on_its_neighbours_nor_on_the_kernel() {
    let stream = on_cpu::stream(0);
    for (sides, lengths) in [([200, 72, 1160], [131, 64, 17, 16, 7, 1]), (LARGE, [1200, 300, 65, 64, 2, 1])] {
        let [n, m, k] = sides;
        let whole = Case::new(Direction::Forward, sides, Write::Set);
        let [x, w, old] = &whole.inputs(DType::F32);
        let run = |case: &Case, x: &[f64], old: &[f64]| {
            bits(&case.run(&stream, [DType::BF16, DType::F32], [x, w, old]))
        };
        let expected = run(&whole, x, old);
        for (i, length) in lengths.into_iter().enumerate() {
            let from = (n - length) * i / lengths.len();
            let case = Case::new(Direction::Forward, [length, m, k], Write::Set);
            let rows = from..from + length;
            let got = run(&case, &x[rows.start * k..rows.end * k], &old[rows.start * m..rows.end * m]);
            assert!(got == expected[rows.start * m..rows.end * m], "rows {rows:?} of {sides:?}");
        }
    }
}

#[test]
fn warpgroups_of_warps_give_the_bits_of_warps() {
    let case = Case::new(Direction::Forward, [1409, 1416, 1096], Write::Add);
    let [x, w, old] = &case.inputs(DType::BF16);
    let run = |stream: &Stream| bits(&case.run(stream, [DType::BF16; 2], [x, w, old]));
    assert!(run(&on_cpu::stream(0)) == run(&on_cpu::stream_of(1, [9, 0])));
}

#[test]
fn weights_collect_the_same_bits_from_leaves_at_once_and_one_after_the_other() {
    let stream = on_cpu::stream(1);
    let [n, m, k] = [200, 72, 136];
    let whole = Case::new(Direction::Weight, [n, m, k], Write::Add);
    let [dy, x, old] = &whole.inputs(DType::F32);
    let expected = whole.run(&stream, [DType::BF16, DType::F32], [dy, x, old]);
    let mut sum = old.clone();
    for leaf in whole.leaves.ranges() {
        let case = Case {
            sides: [leaf.len(), m, k],
            leaves: Leaves::one(leaf.len()),
            ..Case::new(Direction::Weight, [n, m, k], Write::Add)
        };
        let rows = |x: &[f64], width: usize| x[leaf.start * width..leaf.end * width].to_vec();
        sum = case.run(&stream, [DType::BF16, DType::F32], [&rows(dy, m), &rows(x, k), &sum]);
    }
    assert_eq!(bits(&sum), bits(&expected));
}

#[test]
fn a_device_refuses_what_it_has_no_kernel_for() {
    let stream = on_cpu::stream(0);
    let refused = |dtype: DType, sides: Sides| {
        let [n, m, k] = sides;
        let [x, w] =
            [[n, k], [m, k]].map(|[r, c]| tensor_on(&stream, dtype, &numbers(1, r * c), dims![N: r, C: c]));
        let mut y = tensor_on(&stream, dtype, &numbers(2, n * m), dims![N: n, C: m]);
        product::forward(&stream, x.view(), w.view(), y.view_mut(), Write::Set).is_err()
    };
    assert!(!refused(DType::BF16, [3, 8, 16]));
    assert!(refused(DType::BF16, [3, 8, 12]), "K");
    assert!(refused(DType::BF16, [3, 4, 16]), "M");
    assert!(refused(DType::F32, [3, 8, 16]), "f32");
}
