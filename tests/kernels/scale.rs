use patarm::dims;
use patarm::ops::scale::scale;
use patarm::tensor::DType;

use super::on_cpu::{self, SCHEDULES};
use super::tensors::{Output, bits, stored_numbers, stream};

/// Elements: one, less than a piece of either dtype, whole pieces, and more than a block takes with a tail.
const COUNTS: [usize; 7] = [1, 3, 7, 8, 31, 997, 8_197];

#[test]
fn the_kernels_give_the_hosts_bits_for_any_number_of_elements() {
    for dtype in [DType::F32, DType::BF16] {
        for n in COUNTS {
            let x = stored_numbers(dtype, 1, n);
            let run = |stream| {
                let mut x = Output::on(&stream, dtype, &x, dims![N: n]);
                scale(&stream, x.view(), 5.0 / 3.0).unwrap();
                bits(&x.values())
            };
            let host = run(stream(1));
            assert!(
                SCHEDULES.into_iter().all(|schedule| run(on_cpu::stream(schedule)) == host),
                "{dtype:?} {n}"
            );
        }
    }
}

#[test]
fn a_dtype_without_a_kernel_is_refused() {
    let stream = on_cpu::stream(0);
    let mut x = Output::on(&stream, DType::F64, &[1.0], dims![N: 1]);
    let error = scale(&stream, x.view(), 2.0).unwrap_err();
    assert_eq!(error.to_string(), "scale: x is F64: there are kernels for BF16 and F32");
}
