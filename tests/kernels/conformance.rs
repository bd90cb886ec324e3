//! Each wrapper of an instruction against its definition, by the kernels of `kernels/on_cpu/conformance/right.cu`: on a GPU
//! this tells whether what the tests on the CPU believe of the hardware is so. One test a kernel: a wrong one stops its process's
//! device.

use bytemuck::{bytes_of, cast_slice, cast_slice_mut};
use patarm::device::{Address, Cuda, EncodedMap, Grid, Images, Kernel, Swizzle, TensorMap};

use super::on_cpu;
use right::{FLOATS, HOPPER, Map, PORTABLE, Right};

#[path = "../../kernels/on_cpu/conformance/right.rs"]
mod right;

#[cfg(cuda_kernels)]
const IMAGES: Images = &[("right", include_bytes!(concat!(env!("OUT_DIR"), "/right.fatbin")))];
#[cfg(not(cuda_kernels))]
const IMAGES: Images = &[];

/// Panics unless the kernel finds what it expects and leaves what its line says.
fn hold(name: &str, capability: [u32; 2]) {
    let case = PORTABLE.iter().chain(&HOPPER).find(|case| case.name == name).expect("it has a line");
    for schedule in on_cpu::SCHEDULES {
        let cuda = on_cpu::cuda(schedule, [9, 0], IMAGES);
        if cuda.capability() >= capability {
            let input = right::input();
            let output = run(&cuda, case, &input);
            let wrong =
                (0..case.writes).find(|i| (case.copies)(&input, *i).to_bits() != output[*i].to_bits());
            assert_eq!(wrong, None, "{name} leaves {output:?}");
        }
    }
}

fn run(cuda: &Cuda, case: &Right, input: &[f32]) -> Vec<f32> {
    let driver = cuda.driver();
    let place = || driver.allocate(4 * FLOATS).expect("a device that works").expect("four kilobytes");
    let [from, to] = [place(), place()];
    driver.upload(cast_slice(input), from).expect("a device that works");
    driver.zero(to, 4 * FLOATS).expect("a device that works");
    let map = case.map.map(|map| encoded(cuda, from, map));
    let mut arguments = vec![bytes_of(&from), bytes_of(&to)];
    arguments.extend(map.as_ref().map(bytes_of));
    let grid = Grid { blocks: [case.blocks, 1, 1], threads: case.threads, shared: case.shared };
    let mut output = vec![0f32; FLOATS];
    let done = cuda.launch(Kernel { stem: "right", name: case.name }, grid, &arguments);
    done.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let read = driver.download(to, cast_slice_mut(&mut output));
    read.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    [from, to].into_iter().for_each(|at| driver.free(at));
    output
}

fn encoded(cuda: &Cuda, at: Address, map: Map) -> EncodedMap {
    let Map { extent, stride, shape, swizzle } = map;
    let swizzle = match swizzle {
        0 => Swizzle::None,
        32 => Swizzle::Bytes32,
        64 => Swizzle::Bytes64,
        _ => Swizzle::Bytes128,
    };
    let map = TensorMap { at, extent, stride, shape, swizzle };
    cuda.driver().tensor_map(&map).expect("a map that the device takes")
}

/// A test for each kernel, and one that no kernel lacks one.
macro_rules! hold {
    ($([$major:literal, $minor:literal]: $($name:ident)*;)*) => {
        $($(
            #[test]
            fn $name() {
                hold(stringify!($name), [$major, $minor]);
            }
        )*)*

        #[test]
        fn every_kernel_is_launched() {
            let here = [$($((stringify!($name), [$major, $minor])),*),*];
            let portable = PORTABLE.iter().map(|case| (case.name, [8, 0]));
            let all: Vec<_> = portable.chain(HOPPER.iter().map(|case| (case.name, [9, 0]))).collect();
            assert_eq!(here[..], all);
        }
    };
}

hold! {
    [8, 0]: right_transpose right_warp_exchange right_half_warp_shuffles right_shared_atomics right_block_sum right_last_block
        right_async_pipeline right_warp_operations right_mma_layout right_ldmatrix_layout right_ldmatrix_conflicts
        right_last_warp right_last_warpgroup right_fast_exp2 right_named_barriers;
    [9, 0]: right_mbarrier_handoff right_bulk_pipeline
        right_tma_box right_tma_box_swizzled_32 right_tma_box_swizzled_64 right_tma_box_swizzled_128 right_tma_box_3d
        right_wgmma_n16_k_major right_wgmma_n64_k_major right_wgmma_n64_n_major right_wgmma_n128_k_major right_wgmma_n128_n_major
        right_wgmma_n192_k_major right_wgmma_n192_n_major right_wgmma_m_major right_wgmma_m_major_n_major
        right_wgmma_n256_k_major right_wgmma_n256_n_major
        right_wgmma_n64_k_major_registers right_wgmma_n64_n_major_registers
        right_wgmma_n128_k_major_registers right_wgmma_n128_n_major_registers
        right_wgmma_n256_k_major_registers right_wgmma_n256_n_major_registers;
}
