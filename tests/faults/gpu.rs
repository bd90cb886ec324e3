//! Row 23: a GPU that is not there, too old, full, lost or broken. The driver is a shared object that pretends.

use crate::program::{model, patarm};

#[test]
fn row_23_a_gpu_asked_for_where_none_can_be_used_ends_with_5_and_the_cpu_still_works() {
    let score =
        |device: &str| patarm(&["generate", "--model", model(), "--prompt", "one", "--device", device]);
    score("cuda:99").refused(5, &["--device cuda:99", "--device cpu"]);
    score("cuda:x").refused(2, &["cuda:x"]);
    for device in ["cpu", "auto"] {
        score(device).well();
    }
}

#[cfg(cuda_kernels)]
mod with_kernels {
    use std::path::Path;
    use std::process::Command;
    use std::sync::OnceLock;

    use tempfile::TempDir;

    use crate::program::{Ended, model};

    /// The folder of a `libcuda.so.1` that pretends.
    fn driver() -> &'static Path {
        static FOLDER: OnceLock<TempDir> = OnceLock::new();
        let folder = FOLDER.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/fake_driver.c");
            let mut compiler = Command::new("cc");
            let object = folder.path().join("libcuda.so.1");
            let built = compiler
                .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
                .arg(object)
                .arg(source)
                .status();
            assert!(built.unwrap().success());
            folder
        });
        folder.path()
    }

    /// What the program says of a driver with this fault.
    fn with(fault: &str, device: &str) -> Ended {
        let mut command = assert_cmd::Command::cargo_bin("patarm").unwrap();
        command.args([
            "generate",
            "--model",
            model(),
            "--prompt",
            "one",
            "--dtype",
            "bf16",
            "--device",
            device,
        ]);
        Ended::of(&command.env("LD_LIBRARY_PATH", driver()).env("FAKE_CUDA", fault).output().unwrap())
    }

    #[test]
    fn row_23_device_driver_and_needed_version_are_told() {
        with("nothing_there", "cuda").refused(5, &["no CUDA-capable device", "--device cpu"]);
        with("old_driver", "cuda").refused(5, &["CUDA 12.4", "CUDA 13.0", "580"]);
        with("old_gpu", "cuda").refused(5, &["Fake GPU 0", "7.5", "8.0"]);
        with("", "cuda:3").refused(5, &["cuda:3", "1 CUDA device"]);
    }

    #[test]
    fn row_23_a_gpu_that_is_full_lost_or_broken_is_named_with_what_it_did() {
        with("full", "cuda")
            .refused(5, &["Fake GPU 0", "bytes are needed", "1048576 of 1073741824 are free"]);
        with("ecc", "cuda").refused(5, &["Fake GPU 0", "embedding", "uncorrectable ECC error"]);
        with("lost", "cuda").refused(5, &["Fake GPU 0", "unspecified launch failure"]);
    }
}
