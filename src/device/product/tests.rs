use half::bf16;
use proptest::prelude::*;

use super::kernel::{Kernel, Sum};
use super::*;
use crate::device::Float;

/// One element in the contract's order: the plain form that every kernel must equal bit for bit. Kernels whose words hold pairs
/// take subnormal numbers for zeros.
fn element<K: Kernel, C: Scalar<Sum = Sum<K>>>(
    a: Matrix<'_, K::Operand>,
    b: Matrix<'_, K::Operand>,
    [i, j]: [usize; 2],
    (old, write): (C, Write),
) -> C {
    let k = a.size[1];
    let flush = if K::STEPS == 2 { flushed } else { |x| x };
    let mut total = if write == Write::Add { old.widen() } else { Sum::<K>::ZERO };
    for leaf in (0..k).step_by(LEAF) {
        let mut sum = Sum::<K>::ZERO;
        for p in order::<K::Operand>(leaf..k.min(leaf + LEAF)) {
            let [x, y] = if p < k { [a.at(i, p).widen(), b.at(p, j).widen()] } else { [Sum::<K>::ZERO; 2] };
            sum = flush(flush(x).fma(flush(y), sum));
        }
        total += sum;
    }
    C::narrow(total)
}

/// The steps of a leaf: ascending, bf16 in pairs whose odd step comes first.
fn order<T>(leaf: std::ops::Range<usize>) -> Vec<usize> {
    match size_of::<T>() {
        2 => leaf.step_by(2).flat_map(|even| [even + 1, even]).collect(),
        _ => leaf.collect(),
    }
}

/// A subnormal f32 as a zero of its sign.
fn flushed<F: Float>(x: F) -> F {
    let x = x.to_f64();
    F::from_f64(if x.abs() < f64::from(f32::MIN_POSITIVE) { 0f64.copysign(x) } else { x })
}

/// Numbers of every size, from a counter; `odd` sprinkles in infinities, NaN, subnormal numbers and both zeros.
fn numbers<T: Scalar>(seed: u64, count: usize, odd: bool) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = state >> 33;
            let plain = (bits % 20_011) as f64 / 10_005.0 - 1.0;
            let strange = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0, 1e-40, 1e-20, -2e-19, 3e38];
            let pick = odd && bits.is_multiple_of(29);
            let x = if pick { strange[(bits / 29 % 8) as usize] } else { plain };
            T::narrow(T::Sum::from_f64(x))
        })
        .collect()
}

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Columns,
    Gaps,
}

impl Layout {
    fn matrix<T: Copy>(self, data: &[T], [rows, columns]: [usize; 2]) -> Matrix<'_, T> {
        let stride = match self {
            Self::Rows => [columns, 1],
            Self::Columns => [1, rows],
            Self::Gaps => [2 * columns + 1, 2],
        };
        let last = (rows.max(1) - 1) * stride[0] + (columns.max(1) - 1) * stride[1];
        Matrix::strided(&data[..last + 1], [rows, columns], stride)
    }
}

#[derive(Clone, Debug)]
struct Case {
    size: [usize; 3],
    layout: [Layout; 2],
    write: Write,
    odd: bool,
    seed: u64,
}

impl Case {
    /// Runs every kernel and compares every element with the plain form.
    fn check<T: Scalar, C: Scalar<Sum = T::Sum>>(&self) {
        let [m, n, k] = self.size;
        let room = |a: usize, b: usize| 2 * (a + 1) * (b + 1);
        let a: Vec<T> = numbers(self.seed, room(m, k), self.odd);
        let b: Vec<T> = numbers(self.seed + 1, room(k, n), self.odd);
        let c: Vec<C> = numbers(self.seed + 2, m * n, self.odd);
        let (a, b) = (self.layout[0].matrix(&a, [m, k]), self.layout[1].matrix(&b, [k, n]));
        // SAFETY: a kernel is called where the CPU runs it.
        let results = unsafe {
            [
                T::Best::runs().then(|| self.kernel::<T::Best, C>(a, b, &c)),
                T::Wide::runs().then(|| self.kernel::<T::Wide, C>(a, b, &c)),
                T::Narrow::runs().then(|| self.kernel::<T::Narrow, C>(a, b, &c)),
            ]
        };
        let best = results.into_iter().flatten().next().expect("every supported CPU runs a kernel");
        for threads in [1, 2, 3, 4] {
            let mut result = c.clone();
            let host = Host::open(threads).expect("threads");
            product(&host, a, b, MatrixMut::new(&mut result, m, n), self.write);
            self.compare("product", &best, &result);
        }
    }

    /// One kernel, on a block inside guard values.
    unsafe fn kernel<K: Kernel, C: Scalar<Sum = Sum<K>>>(
        &self,
        a: Matrix<'_, K::Operand>,
        b: Matrix<'_, K::Operand>,
        c: &[C],
    ) -> Vec<C> {
        let [m, n, _] = self.size;
        let plain = |e: usize| element::<K, C>(a, b, [e / n, e % n], (c[e], self.write));
        let plain: Vec<C> = (0..m * n).map(plain).collect();
        let guard = C::narrow(Sum::<K>::from_f64(-77.0));
        let mut wide = vec![guard; m * (n + 3)];
        wide.chunks_exact_mut(n + 3)
            .zip(c.chunks_exact(n.max(1)))
            .for_each(|(w, c)| w[..n].copy_from_slice(c));
        // SAFETY: the caller's.
        unsafe { block::product::<K, C>(a, b, &mut BlockMut::new(&mut wide, [m, n], n + 3), self.write) }
        let rows = wide.chunks_exact(n + 3);
        assert!(rows.clone().all(|row| row[n..].iter().all(|x| x.widen() == guard.widen())), "{self:?}");
        let inner: Vec<C> = rows.flat_map(|row| row[..n].to_vec()).collect();
        self.compare(std::any::type_name::<K>(), &plain, &inner);
        inner
    }

    fn compare<C: Scalar>(&self, what: &str, plain: &[C], got: &[C]) {
        for (e, (x, y)) in plain.iter().zip(got).enumerate() {
            let (x, y) = (x.widen(), y.widen());
            let same = x == y && (x.to_f64().is_sign_negative() == y.to_f64().is_sign_negative());
            assert!(same || x.is_nan() && y.is_nan(), "{what}, element {e} of {self:?}: {x}, got {y}");
        }
    }

    fn check_all_storage(&self) {
        self.check::<f32, f32>();
        self.check::<f64, f64>();
        self.check::<bf16, bf16>();
        self.check::<bf16, f32>();
    }
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Rows), Just(Layout::Columns), Just(Layout::Gaps)]
}

fn depths() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..4, 15usize..35, LEAF - 2..LEAF + 3, 2 * LEAF - 1..2 * LEAF + 18]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_body_equals_the_plain_form_bit_for_bit(
        size in (prop_oneof![1usize..4, 4usize..40], 1usize..80, depths()),
        layout in (layouts(), layouts()),
        add in any::<bool>(), odd in any::<bool>(), seed in any::<u32>(),
    ) {
        let write = if add { Write::Add } else { Write::Set };
        let size = [size.0, size.1, size.2];
        Case { size, layout: [layout.0, layout.1], write, odd, seed: seed.into() }.check_all_storage();
    }
}

#[test]
fn products_larger_than_every_block_equal_the_plain_form_bit_for_bit() {
    for (size, layout) in [
        ([401, 530, 513], [Layout::Rows, Layout::Columns]),
        ([200, 1037, 70], [Layout::Columns, Layout::Rows]),
        ([5, 20_011, 20], [Layout::Rows, Layout::Columns]),
    ] {
        let case = Case { size, layout, write: Write::Add, odd: false, seed: 5 };
        case.check::<f32, f32>();
        case.check::<bf16, bf16>();
    }
}

/// Rows of a product, alone and among others, on one thread and on several.
fn rows_stand_alone<T: Scalar<Sum = f32>>() {
    let (m, n, k) = (37, 100, 1101);
    let (a, b): (Vec<T>, Vec<T>) = (numbers(1, m * k, false), numbers(2, n * k, false));
    let b = Matrix::new(&b, n, k).transposed();
    let run = |a: &[T], rows: usize| {
        let mut c = vec![0.0f32; rows * n];
        product_serial(Matrix::new(a, rows, k), b, &mut BlockMut::new(&mut c, [rows, n], n), Write::Set);
        c
    };
    let whole = run(&a, m);
    for rows in [1, 2, 3, 5, 12, 13] {
        for start in 0..m - rows {
            assert_eq!(run(&a[start * k..(start + rows) * k], rows), whole[start * n..(start + rows) * n]);
        }
    }
    let many: Vec<T> = a.iter().copied().cycle().take(700 * k).collect();
    let mut c = vec![0.0f32; 700 * n];
    let host = Host::open(2).expect("threads");
    product(&host, Matrix::new(&many, 700, k), b, MatrixMut::new(&mut c, 700, n), Write::Set);
    assert!(c.chunks(n).zip(whole.chunks(n).cycle()).all(|(row, alone)| row == alone));
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    rows_stand_alone::<f32>();
    rows_stand_alone::<bf16>();
}

/// Without subnormal numbers all kernels of bf16 agree, so that results move between CPUs.
#[test]
fn kernels_of_bf16_agree_on_normal_numbers() {
    let case =
        Case { size: [29, 50, 1030], layout: [Layout::Rows; 2], write: Write::Set, odd: false, seed: 9 };
    let (a, b): (Vec<bf16>, Vec<bf16>) = (numbers(1, 29 * 1030, false), numbers(2, 50 * 1030, false));
    let (a, b) = (Matrix::new(&a, 29, 1030), Matrix::new(&b, 50, 1030).transposed());
    let c = vec![0.0f32; 29 * 50];
    // SAFETY: a kernel is called where the CPU runs it.
    unsafe {
        let narrow = case.kernel::<<bf16 as Kernels>::Narrow, f32>(a, b, &c);
        if <bf16 as Kernels>::Wide::runs() {
            assert_eq!(case.kernel::<<bf16 as Kernels>::Wide, f32>(a, b, &c), narrow);
        }
        if <bf16 as Kernels>::Best::runs() {
            assert_eq!(case.kernel::<<bf16 as Kernels>::Best, f32>(a, b, &c), narrow);
        }
    }
}

#[test]
fn empty_products_write_zero_or_nothing() {
    let host = Host::open(2).expect("threads");
    let mut c = vec![3.0f32; 6];
    product(
        &host,
        Matrix::<f32>::new(&[], 2, 0),
        Matrix::<f32>::new(&[], 0, 3),
        MatrixMut::new(&mut c, 2, 3),
        Write::Add,
    );
    assert_eq!(c, [3.0; 6]);
    product(
        &host,
        Matrix::<f32>::new(&[], 2, 0),
        Matrix::<f32>::new(&[], 0, 3),
        MatrixMut::new(&mut c, 2, 3),
        Write::Set,
    );
    assert_eq!(c, [0.0; 6]);
    product(
        &host,
        Matrix::new(&[1.0f32; 4], 2, 2),
        Matrix::<f32>::new(&[], 2, 0),
        MatrixMut::<f32>::new(&mut [], 2, 0),
        Write::Set,
    );
}
