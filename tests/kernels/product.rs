use patarm::device::Stream;
use patarm::dims;
use patarm::ops::{Leaves, Write, product};
use patarm::tensor::{DType, Tensor};

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, numbers, rounded, stored_numbers, tensor_on};
use super::tolerance::{self, Exact};

/// N, M and K of x [N, K], w [M, K] and y [N, M].
type Sides = [usize; 3];

/// Devices whose products run on warps, and on warpgroups.
pub(super) const CAPABILITIES: [[u32; 2]; 2] = [[8, 0], [9, 0]];

/// Every kernel of the table in `kernels/product.cu`: one leaf and several, tails of every side, one row, a tile and one more.
const SIDES: [Sides; 13] = [
    [1, 8, 8],
    [7, 72, 1160],
    [16, 64, 1024],
    [17, 136, 2072],
    [33, 8, 40],
    [64, 200, 1032],
    [65, 64, 64],
    [131, 136, 1096],
    [200, 40, 72],
    [15, 64, 3080],
    [40, 3080, 64],
    [128, 120, 2056],
    [300, 400, 72],
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

/// Every direction with every storage of its output.
const KINDS: [(Direction, DType); 5] = [
    (Direction::Forward, DType::BF16),
    (Direction::Forward, DType::F32),
    (Direction::Input, DType::BF16),
    (Direction::Input, DType::F32),
    (Direction::Weight, DType::F32),
];

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
    for capability in CAPABILITIES {
        for (schedule, write) in SCHEDULES.into_iter().zip([Write::Set, Write::Add, Write::Set]) {
            let stream = on_cpu::stream_of(schedule, capability);
            for sides in SIDES {
                for (direction, out) in KINDS {
                    Case::new(direction, sides, write).check(&stream, out);
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
    for (capability, schedules) in CAPABILITIES.into_iter().zip([SCHEDULES, [2, 0, 1]]) {
        for (schedule, (direction, sides, out)) in schedules.into_iter().zip(cases) {
            Case::new(direction, sides, Write::Add).check(&on_cpu::stream_of(schedule, capability), out);
        }
    }
}

#[test]
fn a_rows_bits_depend_neither_on_its_neighbours_nor_on_the_kernel() {
    for capability in CAPABILITIES {
        let stream = on_cpu::stream_of(0, capability);
        for (sides, lengths) in
            [([200, 72, 1160], [131, 64, 17, 16, 7, 1]), (LARGE, [1200, 300, 65, 64, 2, 1])]
        {
            rows_have_the_same_bits(&stream, sides, &lengths);
        }
    }
}

/// Rows of this many tokens, on their own and among `sides`.
fn rows_have_the_same_bits(stream: &Stream, sides: Sides, lengths: &[usize]) {
    let [n, m, k] = sides;
    let whole = Case::new(Direction::Forward, sides, Write::Set);
    let [x, w, old] = &whole.inputs(DType::F32);
    let run =
        |case: &Case, x: &[f64], old: &[f64]| bits(&case.run(stream, [DType::BF16, DType::F32], [x, w, old]));
    let expected = run(&whole, x, old);
    for (i, length) in lengths.iter().enumerate() {
        let from = (n - length) * i / lengths.len();
        let case = Case::new(Direction::Forward, [*length, m, k], Write::Set);
        let rows = from..from + length;
        let got = run(&case, &x[rows.start * k..rows.end * k], &old[rows.start * m..rows.end * m]);
        assert!(got == expected[rows.start * m..rows.end * m], "rows {rows:?} of {sides:?}");
    }
}

/// On a GPU this need not be so, and nothing rests on it: here both add as the emulation does.
#[test]
fn warpgroups_sum_in_the_order_of_warps() {
    let cases = [
        (Direction::Forward, [1409, 1416, 200], DType::BF16),
        (Direction::Forward, [65, 136, 3080], DType::F32),
        (Direction::Input, [65, 3080, 136], DType::BF16),
        (Direction::Weight, [300, 136, 200], DType::F32),
    ];
    for (direction, sides, out) in cases {
        let case = Case::new(direction, sides, Write::Add);
        let [a, b, old] = &case.inputs(out);
        let run = |stream: &Stream| bits(&case.run(stream, [DType::BF16, out], [a, b, old]));
        let [warps, groups] = CAPABILITIES.map(|capability| run(&on_cpu::stream_of(1, capability)));
        assert!(warps == groups, "{direction:?} {sides:?}");
    }
}

#[test]
fn weights_collect_the_same_bits_from_leaves_at_once_and_one_after_the_other() {
    for capability in CAPABILITIES {
        weights_collect_the_same_bits(&on_cpu::stream_of(1, capability));
    }
}

fn weights_collect_the_same_bits(stream: &Stream) {
    let [n, m, k] = [200, 72, 136];
    let whole = Case::new(Direction::Weight, [n, m, k], Write::Add);
    let [dy, x, old] = &whole.inputs(DType::F32);
    let expected = whole.run(stream, [DType::BF16, DType::F32], [dy, x, old]);
    let mut sum = old.clone();
    for leaf in whole.leaves.ranges() {
        let case = Case {
            sides: [leaf.len(), m, k],
            leaves: Leaves::one(leaf.len()),
            ..Case::new(Direction::Weight, [n, m, k], Write::Add)
        };
        let rows = |x: &[f64], width: usize| x[leaf.start * width..leaf.end * width].to_vec();
        sum = case.run(stream, [DType::BF16, DType::F32], [&rows(dy, m), &rows(x, k), &sum]);
    }
    assert_eq!(bits(&sum), bits(&expected));
}

/// A box that begins in one leaf may bring tokens of the next: zero times infinity would be no number.
#[test]
fn an_infinite_token_stays_in_its_own_leaf() {
    let [n, m, k] = [95, 136, 72];
    for capability in CAPABILITIES {
        let stream = on_cpu::stream_of(2, capability);
        let leaves = Leaves::new(vec![0, 33, n]);
        let case = Case { leaves, ..Case::new(Direction::Weight, [n, m, k], Write::Add) };
        let [mut dy, mut x, old] = case.inputs(DType::F32);
        dy[40 * m..41 * m].fill(2.0);
        x[40 * k..41 * k].fill(f64::INFINITY);
        let dw = case.run(&stream, [DType::BF16, DType::F32], [&dy, &x, &old]);
        assert!(dw.iter().all(|value| *value == f64::INFINITY), "{capability:?}");
    }
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
