use super::KernelShapes;
use super::case::{Case, Traffic};
use crate::dims;
use crate::ops::adamw::codes::BLOCK;
use crate::ops::adamw::{self, AdamW, Param, Rounding};
use crate::ops::grad_norm;
use crate::ops::philox::Key;
use crate::tensor::{DType, Tensor};

/// What the optimizer does with a weight.
pub(super) fn cases(shapes: &KernelShapes) -> Vec<Case> {
    let (count, dtype) = (shapes.parameters, shapes.dtype);
    let mut cases = vec![norm(count, dtype.accumulator()), step(count, dtype, Copy::None)];
    if dtype != dtype.accumulator() {
        let copies = [Copy::Master, Copy::Stochastic, Copy::MasterOfCodes, Copy::StochasticOfCodes];
        cases.extend(copies.map(|copy| step(count, dtype, copy)));
    }
    cases
}

/// How a narrow weight keeps small steps.
#[derive(Clone, Copy)]
enum Copy {
    None,
    Master,
    Stochastic,
    /// These two with moments of 8 bits.
    MasterOfCodes,
    StochasticOfCodes,
}

fn norm(count: usize, dtype: DType) -> Case {
    let work = grad_norm::work(count, dtype);
    Case::new(format!("grad_norm/parameters={count}"), (work, Traffic::Reads), move |room| {
        let g = room.numbers(dtype, dims![N: count])?;
        Ok(Box::new(move |stream| grad_norm::square_sum(stream, g.view()).map(drop)))
    })
}

fn step(count: usize, dtype: DType, copy: Copy) -> Case {
    let sums = dtype.accumulator();
    let drawn = Rounding::Stochastic(Key::of_update(1, 1, 0));
    let (what, rounding, moments) = match copy {
        Copy::None => ("nearest", Rounding::Nearest, sums),
        Copy::Master => ("master", Rounding::Nearest, sums),
        Copy::Stochastic => ("stochastic", drawn, sums),
        Copy::MasterOfCodes => ("master, 8-bit", Rounding::Nearest, DType::U8),
        Copy::StochasticOfCodes => ("stochastic, 8-bit", drawn, DType::U8),
    };
    let settings = AdamW {
        lr: 1e-5,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 3,
        grad_scale: 1.0,
        rounding,
    };
    let master = matches!(copy, Copy::Master | Copy::MasterOfCodes).then_some(sums);
    let work = adamw::work(count, [dtype, sums, moments], master);
    Case::new(format!("adamw_step/{what}/parameters={count}"), (work, Traffic::Copies), move |room| {
        let mut w = room.numbers(dtype, dims![N: count])?;
        let g = room.numbers(sums, dims![N: count])?;
        // Second moments are not negative.
        let mut m = match moments {
            DType::U8 => room.zeros(moments, dims![N: count])?,
            _ => room.numbers(moments, dims![N: count])?,
        };
        let mut v = room.zeros(moments, dims![N: count])?;
        let blocks = dims![Blocks: count.div_ceil(BLOCK)];
        let mut scales = match moments {
            DType::U8 => Some([room.zeros(sums, blocks)?, room.zeros(sums, blocks)?]),
            _ => None,
        };
        let mut master = master.map(|master| room.numbers(master, dims![N: count])).transpose()?;
        Ok(Box::new(move |stream| {
            let param = Param {
                w: w.view_mut(),
                g: g.view(),
                m: m.view_mut(),
                v: v.view_mut(),
                scales: scales.as_mut().map(|scales| scales.each_mut().map(Tensor::view_mut)),
                master: master.as_mut().map(|master| master.view_mut()),
            };
            adamw::step(stream, param, &settings)
        }))
    })
}
