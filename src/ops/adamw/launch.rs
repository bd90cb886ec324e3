use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::codes::Map;
use super::{AdamW, Factors, Param, Rounding};
use crate::device::{Address, Grid};
use crate::ops::OpError;
use crate::ops::launch::Launch;
use crate::ops::philox::Key;
use crate::tensor::DType;

/// `AdamwStep` in `kernels/adamw.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    w: Address,
    g: Address,
    m: Address,
    v: Address,
    m_scales: Address,
    v_scales: Address,
    maps: Address,
    master: Address,
    count: u64,
    factors: [f32; 8],
    noise: Key,
}

const _: () = assert!(
    size_of::<Arguments>() == 120
        && offset_of!(Arguments, count) == 64
        && offset_of!(Arguments, noise) == 104
);

impl Factors<f32> {
    /// As the kernel takes them.
    fn in_order(&self) -> [f32; 8] {
        let Self { grad_scale, keep, toward_g, beta2, toward_square, step_size, root, eps } = *self;
        [grad_scale, keep, toward_g, beta2, toward_square, step_size, root, eps]
    }
}

/// Elements of a block of threads.
const BLOCK_ELEMENTS: usize = 2048;

/// The kernel's name, or why there is none.
fn kernel(param: &Param<'_>, rounding: Rounding) -> Result<&'static str, String> {
    Ok(match (param.w.dtype(), &param.scales, &param.master, rounding) {
        (DType::F32, None, None, _) => "adamw_step_f32",
        (DType::BF16, None, Some(_), _) => "adamw_step_bf16_master",
        (DType::BF16, None, None, Rounding::Nearest) => "adamw_step_bf16",
        (DType::BF16, None, None, Rounding::Stochastic(_)) => "adamw_step_bf16_stochastic",
        (DType::BF16, Some(_), Some(_), _) => "adamw_step_bf16_8bit_master",
        (DType::BF16, Some(_), None, Rounding::Nearest) => "adamw_step_bf16_8bit",
        (DType::BF16, Some(_), None, Rounding::Stochastic(_)) => "adamw_step_bf16_8bit_stochastic",
        (other, ..) => {
            let reason =
                "there are kernels for BF16, and for F32 with wide moments and without a master copy";
            return Err(format!("w is {other:?}: {reason}"));
        }
    })
}

pub(super) fn launch(launch: &Launch<'_>, param: Param<'_>, settings: &AdamW) -> Result<(), OpError> {
    let name = kernel(&param, settings.rounding).map_err(|reason| launch.refuse(reason))?;
    let [m_scales, v_scales, maps] = match &param.scales {
        Some([m, v]) => {
            let words = [Map::signed().words(), Map::unsigned().words()];
            let maps = launch.cuda.list("adamw_maps", words.as_flattened())?;
            [launch.start("m_scales", m.view())?, launch.start("v_scales", v.view())?, maps]
        }
        None => [Address(0); 3],
    };
    let arguments = Arguments {
        w: launch.start("w", param.w.view())?,
        g: launch.start("g", param.g)?,
        m: launch.start("m", param.m.view())?,
        v: launch.start("v", param.v.view())?,
        m_scales,
        v_scales,
        maps,
        master: param.master.map_or(Ok(Address(0)), |master| launch.start("master", master.view()))?,
        count: param.w.dims().count() as u64,
        factors: Factors::of(settings).in_order(),
        noise: match settings.rounding {
            Rounding::Stochastic(key) => key,
            Rounding::Nearest => Key::zeroed(),
        },
    };
    launch.run_with(name, Grid::row(param.w.dims().count().div_ceil(BLOCK_ELEMENTS), 256), &arguments)
}
