use super::KernelShapes;
use super::case::{Case, Traffic};
use crate::dims;
use crate::ops::{Leaves, Write, product};
use crate::tensor::DType;

/// From so many tokens on a product is bound by what it multiplies, and what it moves is no longer its weights alone.
const MANY: usize = 256;

/// The products of a layer, each direction.
pub(super) fn cases(shapes: &KernelShapes) -> Vec<Case> {
    let weights = weights(shapes);
    let forward = weights.iter().flat_map(|weight| shapes.products.iter().map(|n| forward(*weight, *n)));
    let backward = weights.iter().flat_map(|weight| {
        shapes.backward.iter().flat_map(|n| [backward_input(*weight, *n), backward_weight(*weight, *n)])
    });
    forward.chain(backward).collect()
}

/// A weight [M, K] by its place in a layer.
#[derive(Clone, Copy)]
struct Weight {
    place: &'static str,
    m: usize,
    k: usize,
    dtype: DType,
}

fn weights(shapes: &KernelShapes) -> [Weight; 4] {
    let (c, dtype) = (&shapes.config, shapes.dtype);
    let weight = |place, m, k| Weight { place, m, k, dtype };
    [
        weight("qkv", c.query_width() + 2 * c.kv_width(), c.hidden),
        weight("o", c.hidden, c.query_width()),
        weight("gate_up", 2 * c.feed_forward, c.hidden),
        weight("down", c.hidden, c.feed_forward),
    ]
}

impl Weight {
    fn name(self, op: &str, n: usize) -> String {
        let Self { place, m, k, .. } = self;
        format!("{op}/{place}/M={n} N={m} K={k}")
    }
}

fn traffic(n: usize) -> Traffic {
    if n < MANY { Traffic::Reads } else { Traffic::Copies }
}

fn forward(weight: Weight, n: usize) -> Case {
    let Weight { m, k, dtype, .. } = weight;
    let work = product::forward_work([n, m, k], dtype, (dtype, Write::Set));
    Case::new(weight.name("product_forward", n), (work, traffic(n)), move |room| {
        let x = room.numbers(dtype, dims![N: n, C: k])?;
        let w = room.numbers(dtype, dims![N: m, C: k])?;
        let mut y = room.zeros(dtype, dims![N: n, C: m])?;
        Ok(Box::new(move |stream| product::forward(stream, x.view(), w.view(), y.view_mut(), Write::Set)))
    })
}

fn backward_input(weight: Weight, n: usize) -> Case {
    let Weight { m, k, dtype, .. } = weight;
    let work = product::backward_input_work([n, m, k], dtype, (dtype, Write::Set));
    Case::new(weight.name("product_backward_input", n), (work, traffic(n)), move |room| {
        let dy = room.numbers(dtype, dims![N: n, C: m])?;
        let w = room.numbers(dtype, dims![N: m, C: k])?;
        let mut dx = room.zeros(dtype, dims![N: n, C: k])?;
        Ok(Box::new(move |stream| {
            product::backward_input(stream, dy.view(), w.view(), dx.view_mut(), Write::Set)
        }))
    })
}

fn backward_weight(weight: Weight, n: usize) -> Case {
    let Weight { m, k, dtype, .. } = weight;
    let work = product::backward_weight_work([n, m, k], dtype);
    Case::new(weight.name("product_backward_weight", n), (work, traffic(n)), move |room| {
        let dy = room.numbers(dtype, dims![N: n, C: m])?;
        let x = room.numbers(dtype, dims![N: n, C: k])?;
        let mut dw = room.zeros(dtype.accumulator(), dims![N: m, C: k])?;
        let leaves = Leaves::one(n);
        Ok(Box::new(move |stream| {
            product::backward_weight(stream, dy.view(), x.view(), &leaves, dw.view_mut())
        }))
    })
}
