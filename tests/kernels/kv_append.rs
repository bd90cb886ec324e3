use patarm::device::Stream;
use patarm::dims;
use patarm::ops::kv_append;
use patarm::tensor::{DType, Tensor};

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, expect_trap, ids_on, numbers, rounded, stored_numbers, stream, tensor_on};

/// (layers, blocks, heads, dims of a head) of a pool; the last layer is written.
type Shape = (usize, usize, usize, usize);

fn hold(stream: &Stream, dtype: DType, (layers, blocks, heads, d): Shape, slots: &[usize]) {
    let [k, v] = [1, 2].map(|seed| stored_numbers(dtype, seed, slots.len() * heads * d));
    let dims = dims![L: layers, Blocks: blocks, Pair: 2, KVH: heads, S: 64, D: d];
    let mut expected = rounded(dtype, &numbers(3, dims.count()));
    let mut pool = Output::on(stream, dtype, &expected, dims);
    let rows = dims![N: slots.len(), KVH: heads, D: d];
    let [k_tensor, v_tensor] = [&k, &v].map(|x| tensor_on(stream, dtype, x, rows));
    let ids = ids_on(stream, &slots.iter().map(|slot| *slot as u32).collect::<Vec<_>>());
    kv_append::forward(stream, k_tensor.view(), v_tensor.view(), pool.view(), layers - 1, ids.view())
        .unwrap();
    for (n, slot) in slots.iter().enumerate() {
        for (pair, rows) in [&k, &v].into_iter().enumerate() {
            for head in 0..heads {
                let block = (((layers - 1) * blocks + slot / 64) * 2 + pair) * heads + head;
                let (to, from) = ((block * 64 + slot % 64) * d, (n * heads + head) * d);
                expected[to..][..d].copy_from_slice(&rows[from..][..d]);
            }
        }
    }
    assert_eq!(pool.values(), expected);
}

#[test]
fn keys_and_values_land_in_their_slots_and_nowhere_else() {
    for dtype in [DType::F32, DType::BF16] {
        hold(&stream(2), dtype, (2, 5, 2, 7), &[0, 63, 64, 319, 130, 131]);
    }
}

#[test]
fn the_kernel_puts_them_there_too() {
    let scattered: Vec<usize> = (0..67).map(|n| n * 37 % 256).collect();
    for schedule in SCHEDULES {
        let stream = on_cpu::stream(schedule);
        hold(&stream, DType::BF16, (1, 1, 1, 8), &[63]);
        hold(&stream, DType::BF16, (2, 5, 2, 24), &[0, 63, 64, 319, 130, 131]);
        hold(&stream, DType::F32, (2, 4, 3, 64), &scattered);
    }
}

#[test]
fn a_slot_outside_the_pool_stops_the_kernel() {
    let stream = on_cpu::stream(0);
    let k = tensor_on(&stream, DType::BF16, &[0.0; 8], dims![N: 1, KVH: 1, D: 8]);
    let dims = dims![L: 1, Blocks: 2, Pair: 2, KVH: 1, S: 64, D: 8];
    let mut pool = Output::on(&stream, DType::BF16, &vec![0.0; dims.count()], dims);
    let slots = ids_on(&stream, &[128]);
    expect_trap(&stream, kv_append::forward(&stream, k.view(), k.view(), pool.view(), 0, slots.view()));
}

#[test]
fn a_slot_or_layer_outside_the_pool_is_an_error() {
    let k = Tensor::zeros(DType::F32, dims![N: 1, KVH: 1, D: 2]);
    let mut pool = Tensor::zeros(DType::F32, dims![L: 1, Blocks: 2, Pair: 2, KVH: 1, S: 64, D: 2]);
    let append = |pool: &mut Tensor, layer, slot| {
        let slots = Tensor::from_ids(&[slot], dims![N: 1]);
        kv_append::forward(&stream(1), k.view(), k.view(), pool.view_mut(), layer, slots.view())
    };
    assert!(append(&mut pool, 0, 127).is_ok());
    assert!(append(&mut pool, 0, 128).is_err());
    assert!(append(&mut pool, 1, 0).is_err());
}
