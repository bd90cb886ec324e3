use patarm::dims;
use patarm::ops::kv_append;
use patarm::tensor::{DType, Tensor};

use super::tensors::{Output, numbers, stored_numbers, stream, tensor};

#[test]
fn keys_and_values_land_in_their_slots_and_nowhere_else() {
    let (layers, blocks, heads, d) = (3, 5, 2, 7);
    let slots = [0, 63, 64, 319, 130, 131];
    for dtype in [DType::F32, DType::BF16] {
        let [k, v] = [1, 2].map(|seed| stored_numbers(dtype, seed, slots.len() * heads * d));
        let dims = dims![L: layers, Blocks: blocks, Pair: 2, KVH: heads, S: 64, D: d];
        let old = super::tensors::rounded(dtype, &numbers(3, dims.count()));
        let mut pool = Output::holding(dtype, &old, dims);
        let rows = dims![N: slots.len(), KVH: heads, D: d];
        let [k_tensor, v_tensor] = [&k, &v].map(|x| tensor(dtype, x, rows));
        let ids = Tensor::from_ids(&slots.map(|s| s as u32), dims![N: slots.len()]);
        kv_append::forward(&stream(2), k_tensor.view(), v_tensor.view(), pool.view(), 1, ids.view()).unwrap();
        let mut expected = old;
        for (n, slot) in slots.iter().enumerate() {
            for (pair, rows) in [&k, &v].into_iter().enumerate() {
                for head in 0..heads {
                    for i in 0..d {
                        let block = ((blocks + slot / 64) * 2 + pair) * heads + head;
                        expected[(block * 64 + slot % 64) * d + i] = rows[(n * heads + head) * d + i];
                    }
                }
            }
        }
        assert_eq!(pool.values(), expected);
    }
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
