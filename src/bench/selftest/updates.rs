use super::subject::{Output, Place, Subject, numbers, output, sizes};
use crate::dims;
use crate::ops::adamw::{self, AdamW, Param};
use crate::ops::grad_norm;
use crate::tensor::DType;

/// What the optimizer does: elements fewer than a thread takes, and more than a block does.
pub(super) fn subjects() -> Vec<Subject> {
    [1, 31, 997, 8200].into_iter().flat_map(|count| [step(count), square_sum(count)]).collect()
}

const LR: f64 = 0.01;
const DECAY: f64 = 0.1;

/// Second moments, which are not negative.
fn second(count: usize) -> Vec<f64> {
    numbers(4, count).iter().map(|x| x * x + 0.25).map(|x| f64::from(x as f32)).collect()
}

fn step(count: usize) -> Subject {
    let run = move |place: &Place<'_>| {
        let dims = dims![N: count];
        let (mut w, g, mut m) = (place.numbers(1, dims)?, place.sums(2, dims)?, place.sums(3, dims)?);
        let mut v = place.holding(place.dtype.accumulator(), &second(count), dims)?;
        let param = Param {
            w: w.view_mut(),
            g: g.view(),
            m: m.view_mut(),
            v: v.view_mut(),
            scales: None,
            master: None,
        };
        let settings = AdamW {
            lr: LR,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: DECAY,
            step: 3,
            grad_scale: 0.7,
            rounding: adamw::Rounding::Nearest,
        };
        adamw::step(place.stream, param, &settings)?;
        Ok(vec![output("w", &w)?, output("m", &m)?, output("v", &v)?])
    };
    Subject::new("adamw_step", format!("parameters={count}"), run, move |exact| {
        let [w, g, m] = [1, 2, 3].map(|seed| sizes(&numbers(seed, count)));
        let second = second(count);
        let change = |i: usize| (w[i] - exact[0][i].abs()).abs() + LR * (m[i] + g[i]) / second[i].sqrt();
        vec![
            (0..count).map(|i| w[i] + 10.0 * change(i)).collect(),
            (0..count).map(|i| m[i] + 2.0 * g[i]).collect(),
            (0..count).map(|i| second[i] + g[i] * g[i]).collect(),
        ]
    })
}

/// The sum leaves as f64, of squares that are exact in it, but the elements' dtype is what it is held to.
fn square_sum(count: usize) -> Subject {
    Subject::alone("grad_norm", format!("parameters={count}"), move |place| {
        let g = place.sums(1, dims![N: count])?;
        let sum = grad_norm::square_sum(place.stream, g.view())?;
        let dtype = if place.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        Ok(vec![Output { name: "sum", dtype, values: vec![sum] }])
    })
}
