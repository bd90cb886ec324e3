//! Every `kernels/*.cu` becomes one fat binary, named by its stem, inside the program. Without nvcc there are none, the
//! build says so once, and `--device cuda` says so again.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Code for sm_80 (which also runs on 8.6 and 8.9) and sm_90a, and PTX for whatever came later.
const TARGETS: [&str; 3] =
    ["arch=compute_80,code=sm_80", "arch=compute_90a,code=sm_90a", "arch=compute_80,code=compute_80"];

/// Compiles what there is and writes the table that the program includes.
pub(super) fn build() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"));
    let out = PathBuf::from(variable("OUT_DIR").expect("cargo says where to write"));
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let sources = sources(&root.join("kernels"));
    let images = match nvcc(&root) {
        Some(nvcc) => compile(&nvcc, &sources, &out),
        None if sources.is_empty() => Vec::new(),
        None => {
            println!(
                "cargo::warning=no nvcc: this build is for the CPU alone (kernels/install_nvcc fetches it)"
            );
            Vec::new()
        }
    };
    let mut table = String::from("&[");
    for image in images {
        let stem = image.file_stem().expect("named by its stem").to_string_lossy();
        write!(table, "({stem:?}, include_bytes!({:?})),", image.display().to_string()).expect("memory");
    }
    fs::write(out.join("images.rs"), table + "]").expect("the build's own folder can be written");
}

/// The kernels, in the order of their names.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("the kernels' folder").map(|entry| entry.expect("an entry").path());
    let mut sources: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|ext| ext == "cu")).collect();
    sources.sort();
    sources
}

/// Where the user says, where CUDA says, where `kernels/install_nvcc` puts it, where the shell finds it, where NVIDIA's packages put it.
fn nvcc(root: &Path) -> Option<PathBuf> {
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let own = root.join(".cuda/nvidia/cu13/bin/nvcc");
    let path = variable("PATH").unwrap_or_default();
    let places = variable("NVCC").map(PathBuf::from).into_iter();
    let places = places.chain(toolkits.map(|home| Path::new(&home).join("bin/nvcc"))).chain([own]);
    let places = places.chain(env::split_paths(&path).map(|folder| folder.join("nvcc")));
    places.chain(["/usr/local/cuda/bin/nvcc".into()]).find(|place| place.is_file())
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// One nvcc a source, as many at once as cargo allows.
fn compile(nvcc: &Path, sources: &[PathBuf], out: &Path) -> Vec<PathBuf> {
    let jobs = variable("NUM_JOBS").and_then(|jobs| jobs.to_str()?.parse().ok()).unwrap_or(1).max(1);
    let mut images = Vec::new();
    for batch in sources.chunks(jobs) {
        let started: Vec<_> = batch.iter().map(|source| start(nvcc, source, out)).collect();
        images.extend(started.into_iter().map(|(image, child)| finish(image, child)));
    }
    images
}

fn start(nvcc: &Path, source: &Path, out: &Path) -> (PathBuf, Child) {
    let image = out.join(source.file_name().expect("a file")).with_extension("fatbin");
    let mut command = Command::new(nvcc);
    command.args(["-O3", "-std=c++17", "-lineinfo", "-Werror", "all-warnings", "-fatbin", "-o"]).arg(&image);
    command.args(TARGETS.iter().flat_map(|target| ["-gencode", target]));
    let started = command.arg(source).spawn();
    (image, started.unwrap_or_else(|error| panic!("cannot run {}: {error}", nvcc.display())))
}

fn finish(image: PathBuf, mut child: Child) -> PathBuf {
    let ended = child.wait().expect("nvcc ends");
    assert!(ended.success(), "nvcc refused {}: what it says is above", image.display());
    image
}
