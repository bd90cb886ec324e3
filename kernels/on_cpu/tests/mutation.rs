//! What the mutation run changes, and how it reads the list of changes that make no difference.

use on_cpu::equivalents::equivalents;
use on_cpu::mutation::{kernels, mutants, mutants_of, stems};

const SOURCE: &str = "\
#include \"rows.cuh\"
template <int N> DEV void f(const float* x, int n) {  // n < N
  if constexpr (N > 32) return;
  for (int i = 0; i < n; i++) cp_async_16(a, b, i <= 3);
  cp_async_wait<N - 1>();
  if (last) __syncthreads();
  resync_block();
  mbar_wait(&full[stage], (phase >> 1) & 1);
  while (a < b && c < d) named_sync(
      1, THREADS), f(min(a, fmin(b, c)));
}
";

#[test]
fn barriers_go_and_bounds_shift_one_at_a_time() {
    let found: Vec<(usize, String)> =
        mutants_of("f.cu", SOURCE).into_iter().map(|m| (m.line, m.change)).collect();
    let expected = [
        (4, "`<=` for `<`"),
        (4, "`<` for `<=`"),
        (5, "without cp_async_wait<N - 1>()"),
        (6, "without __syncthreads()"),
        (8, "without mbar_wait(&full[stage], (phase >> 1) & 1)"),
        (9, "`<=` for the first `<`"),
        (9, "`<=` for the second `<`"),
        (9, "without named_sync( 1, THREADS)"),
        (10, "1 more than `min`"),
    ];
    assert_eq!(found, expected.map(|(line, change)| (line, change.to_owned())));
}

#[test]
fn the_list_of_equivalents_names_mutants_that_exist() {
    let mutants = mutants_of("f.cu", SOURCE);
    let good =
        "# a comment\nf.cu\ncp_async_wait<N - 1>();\nwithout cp_async_wait<N - 1>()\nNothing is under way.\n";
    let list = equivalents(good, &mutants).expect("it names the third mutant");
    assert_eq!(
        mutants.iter().map(|mutant| list[0].is(mutant)).collect::<Vec<_>>(),
        [false, false, true, false, false, false, false, false, false]
    );
    assert_eq!(list[0].reason, "Nothing is under way.");
    let stale = good.replace("N - 1", "N - 2");
    assert!(equivalents(&stale, &mutants).expect_err("no such line").contains("out of date"));
    assert!(
        equivalents("f.cu\nx\n", &mutants).expect_err("two lines").contains("file, line, change and reason")
    );
}

#[test]
fn a_header_belongs_to_the_kernels_that_include_it() {
    let stems = stems(&kernels()).expect("the folder can be read");
    assert_eq!(stems["rms_norm.cu"].iter().collect::<Vec<_>>(), ["rms_norm"]);
    assert!(stems["warp.cuh"].contains("rms_norm") && stems["warp.cuh"].len() > 1);
    assert!(stems["kernel.cuh"].len() >= stems["warp.cuh"].len(), "warp.cuh includes it");
}

#[test]
fn every_wrapper_that_orders_something_is_taken_out() {
    let does_something = ["last_warpgroup", "setmaxnreg_inc", "setmaxnreg_dec", "cp_async_16", "wgmma_desc"];
    for header in ["async_copy.cuh", "barrier.cuh", "wgmma.cuh"] {
        let source = std::fs::read_to_string(kernels().join(header)).expect("the header can be read");
        for line in source.lines().filter(|line| !line.contains("_bf16(") && !line.starts_with('#')) {
            let Some((_, declared)) = line.split_once("DEV ") else { continue };
            let name =
                declared.split('(').next().and_then(|start| start.split(' ').nth(1)).expect("a function");
            let call = format!("  {name}(x);\n");
            let taken_out = mutants_of("f.cu", &call).len() == 1;
            assert_eq!(taken_out, !does_something.contains(&name), "{header}: {name}");
        }
    }
}

#[test]
fn headers_of_wrappers_have_no_mutants() {
    let mutants = mutants(&kernels()).expect("the folder can be read");
    assert!(mutants.iter().any(|mutant| mutant.file == "warp.cuh"), "barriers of block_sum");
    assert!(mutants.iter().all(|mutant| mutant.file != "barrier.cuh" && mutant.file != "vector.cuh"));
}
