use patarm::device::Stream;
use patarm::dims;
use patarm::ops::kv_copy;
use patarm::tensor::DType;

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, stored_numbers, stream};

fn hold(
    stream: &Stream,
    dtype: DType,
    (layers, blocks, heads, d): (usize, usize, usize, usize),
    pairs: &[(u32, u32)],
) {
    let dims = dims![L: layers, Blocks: blocks, Pair: 2, KVH: heads, S: 64, D: d];
    let mut expected = stored_numbers(dtype, 1, dims.count());
    let mut pool = Output::on(stream, dtype, &expected, dims);
    kv_copy::forward(stream, pool.view(), pairs).unwrap();
    let block = 2 * heads * 64 * d;
    for layer in expected.chunks_mut(blocks * block) {
        for (from, to) in pairs.iter().map(|(from, to)| (*from as usize * block, *to as usize * block)) {
            layer.copy_within(from..from + block, to);
        }
    }
    assert_eq!(pool.values(), expected);
}

/// More pairs than one launch takes: every even block to its odd neighbour.
fn neighbours() -> Vec<(u32, u32)> {
    (0..70).map(|pair| (2 * pair, 2 * pair + 1)).collect()
}

#[test]
fn blocks_are_copied_in_every_layer_and_no_others_change() {
    hold(&stream(2), DType::F32, (3, 5, 2, 3), &[(0, 3), (0, 1), (4, 2)]);
    hold(&stream(2), DType::BF16, (1, 140, 1, 1), &neighbours());
}

#[test]
fn the_kernel_copies_the_same() {
    for schedule in SCHEDULES {
        let stream = on_cpu::stream(schedule);
        hold(&stream, DType::BF16, (3, 5, 2, 72), &[(0, 3), (0, 1), (4, 2)]);
        hold(&stream, DType::F32, (1, 140, 1, 1), &neighbours());
    }
}

#[test]
fn a_block_that_the_pool_does_not_have_is_refused() {
    let dims = dims![L: 1, Blocks: 2, Pair: 2, KVH: 1, S: 64, D: 1];
    let mut pool = Output::on(&stream(1), DType::F32, &vec![0.0; dims.count()], dims);
    assert!(kv_copy::forward(&stream(1), pool.view(), &[(0, 2)]).is_err());
}
