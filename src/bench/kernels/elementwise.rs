use super::KernelShapes;
use super::case::{Case, Traffic};
use crate::bench::tokens;
use crate::dims;
use crate::ops::{Leaves, Write, embedding, rms_norm, rope, rows, swiglu};
use crate::tensor::DType;

/// What a layer does beside its products, and what stands before the first.
pub(super) fn cases(shapes: &KernelShapes) -> Vec<Case> {
    let (c, n, dtype) = (&shapes.config, shapes.tokens, shapes.dtype);
    let per_head = [n * c.heads, c.head_dim];
    vec![
        embed([n, c.vocabulary, c.hidden], dtype),
        embed_backward([n, c.vocabulary, c.hidden], dtype),
        norm([n, c.hidden], dtype),
        norm_backward([n, c.hidden], dtype),
        norm(per_head, dtype),
        norm_backward(per_head, dtype),
        turn([n, c.heads, c.head_dim], (Way::Forward, c.rope_theta), dtype),
        turn([n, c.heads, c.head_dim], (Way::Backward, c.rope_theta), dtype),
        gate([n, c.feed_forward], dtype),
        gate_backward([n, c.feed_forward], dtype),
        copy([n, c.hidden], dtype),
        gather([n, c.hidden], dtype),
    ]
}

fn embed([n, v, c]: [usize; 3], dtype: DType) -> Case {
    let work = embedding::forward_work([n, c], dtype);
    Case::new(format!("embedding_forward/N={n} V={v} C={c}"), (work, Traffic::Copies), move |room| {
        let table = room.numbers(dtype, dims![V: v, C: c])?;
        let ids = room.ids(&tokens(n, v), dims![N: n])?;
        let mut out = room.zeros(dtype, dims![N: n, C: c])?;
        Ok(Box::new(move |stream| embedding::forward(stream, table.view(), ids.view(), out.view_mut())))
    })
}

fn embed_backward([n, v, c]: [usize; 3], dtype: DType) -> Case {
    let work = embedding::backward_work([n, v, c], dtype);
    Case::new(format!("embedding_backward/N={n} V={v} C={c}"), (work, Traffic::Copies), move |room| {
        let dout = room.numbers(dtype, dims![N: n, C: c])?;
        let ids = room.ids(&tokens(n, v), dims![N: n])?;
        let mut dtable = room.zeros(dtype.accumulator(), dims![V: v, C: c])?;
        Ok(Box::new(move |stream| embedding::backward(stream, dout.view(), ids.view(), dtable.view_mut())))
    })
}

fn norm([n, c]: [usize; 2], dtype: DType) -> Case {
    let work = rms_norm::forward_work([n, c], dtype);
    Case::new(format!("rms_norm_forward/N={n} C={c}"), (work, Traffic::Copies), move |room| {
        let x = room.numbers(dtype, dims![N: n, C: c])?;
        let gain = room.numbers(dtype.accumulator(), dims![C: c])?;
        let mut y = room.zeros(dtype, x.dims())?;
        let mut rstd = room.zeros(dtype.accumulator(), dims![N: n])?;
        Ok(Box::new(move |stream| {
            rms_norm::forward(stream, x.view(), gain.view(), 1e-6, y.view_mut(), rstd.view_mut())
        }))
    })
}

fn norm_backward([n, c]: [usize; 2], dtype: DType) -> Case {
    let work = rms_norm::backward_work([n, c], dtype, Write::Add);
    Case::new(format!("rms_norm_backward/N={n} C={c}"), (work, Traffic::Copies), move |room| {
        let sums = dtype.accumulator();
        let x = room.numbers(dtype, dims![N: n, C: c])?;
        let dy = room.numbers(dtype, dims![N: n, C: c])?;
        let gain = room.numbers(sums, dims![C: c])?;
        let rstd = room.numbers(sums, dims![N: n])?;
        let mut dx = room.zeros(dtype, dims![N: n, C: c])?;
        let mut dgain = room.zeros(sums, dims![C: c])?;
        let leaves = Leaves::one(n);
        Ok(Box::new(move |stream| {
            let inputs = rms_norm::Backward {
                dy: dy.view(),
                x: x.view(),
                gain: gain.view(),
                rstd: rstd.view(),
                leaves: &leaves,
            };
            rms_norm::backward(stream, inputs, dx.view_mut(), Write::Add, Some(dgain.view_mut()))
        }))
    })
}

#[derive(Clone, Copy)]
enum Way {
    Forward,
    Backward,
}

/// One sequence of n tokens.
fn turn([n, h, d]: [usize; 3], (way, theta): (Way, f64), dtype: DType) -> Case {
    let op = match way {
        Way::Forward => "rope_forward",
        Way::Backward => "rope_backward",
    };
    let work = rope::work([n, h, d], n, dtype);
    Case::new(format!("{op}/N={n} H={h} D={d}"), (work, Traffic::Copies), move |room| {
        let mut x = room.numbers(dtype, dims![N: n, H: h, D: d])?;
        let table = rope::Table::new(n, d, theta, dtype, &mut room.arena)?;
        let positions: Vec<u32> = (0..n as u32).collect();
        let positions = room.ids(&positions, dims![N: n])?;
        Ok(Box::new(move |stream| match way {
            Way::Forward => rope::forward(stream, x.view_mut(), positions.view(), &table),
            Way::Backward => rope::backward(stream, x.view_mut(), positions.view(), &table),
        }))
    })
}

fn gate([n, f]: [usize; 2], dtype: DType) -> Case {
    let work = swiglu::forward_work([n, f], dtype);
    Case::new(format!("swiglu_forward/N={n} F={f}"), (work, Traffic::Copies), move |room| {
        let gate = room.numbers(dtype, dims![N: n, F: f])?;
        let up = room.numbers(dtype, dims![N: n, F: f])?;
        let mut out = room.zeros(dtype, dims![N: n, F: f])?;
        Ok(Box::new(move |stream| swiglu::forward(stream, gate.view(), up.view(), out.view_mut())))
    })
}

fn gate_backward([n, f]: [usize; 2], dtype: DType) -> Case {
    let work = swiglu::backward_work([n, f], dtype);
    Case::new(format!("swiglu_backward/N={n} F={f}"), (work, Traffic::Copies), move |room| {
        let dout = room.numbers(dtype, dims![N: n, F: f])?;
        let mut gate = room.numbers(dtype, dims![N: n, F: f])?;
        let mut up = room.numbers(dtype, dims![N: n, F: f])?;
        Ok(Box::new(move |stream| swiglu::backward(stream, dout.view(), gate.view_mut(), up.view_mut())))
    })
}

fn copy([n, c]: [usize; 2], dtype: DType) -> Case {
    let work = rows::copy_work([n, c], dtype);
    Case::new(format!("rows_copy/N={n} C={c}"), (work, Traffic::Copies), move |room| {
        let x = room.numbers(dtype, dims![N: n, C: c])?;
        let mut y = room.zeros(dtype, x.dims())?;
        Ok(Box::new(move |stream| rows::copy(stream, x.view(), y.view_mut())))
    })
}

/// Every second row, from the last to the first.
fn gather([n, c]: [usize; 2], dtype: DType) -> Case {
    let m = n.div_ceil(2);
    let work = rows::gather_work([m, c], dtype);
    Case::new(format!("rows_gather/N={n} M={m} C={c}"), (work, Traffic::Copies), move |room| {
        let x = room.numbers(dtype, dims![N: n, C: c])?;
        let picked: Vec<u32> = (0..m).rev().map(|row| 2 * row as u32).collect();
        let picked = room.ids(&picked, dims![N: m])?;
        let mut y = room.zeros(dtype, dims![N: m, C: c])?;
        Ok(Box::new(move |stream| rows::gather(stream, x.view(), picked.view(), y.view_mut())))
    })
}
