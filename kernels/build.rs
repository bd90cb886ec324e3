//! Every `kernels/*.cu` becomes one fat binary, named by its stem, inside the program. Without nvcc there are none, the
//! build says so once, and `--device cuda` says so again.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::SystemTime;

/// Code for sm_80 (which also runs on 8.6 and 8.9) and sm_90a, and PTX for whatever came later.
const TARGETS: [&str; 3] =
    ["arch=compute_80,code=sm_80", "arch=compute_90a,code=sm_90a", "arch=compute_80,code=compute_80"];

/// Each wrapper against its definition: an image of the tests, which the program does not hold.
const CONFORMANCE: &str = "on_cpu/conformance/right.cu";

/// Compiles what there is and writes the table that the program includes.
pub(super) fn build() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"));
    let out = PathBuf::from(variable("OUT_DIR").expect("cargo says where to write"));
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let sources = sources(&root.join("kernels"));
    println!("cargo::rustc-check-cfg=cfg(cuobjdump, cuda_kernels)");
    let conformance = root.join("kernels").join(CONFORMANCE);
    let images = match nvcc(&root) {
        Some(nvcc) => {
            println!("cargo::rustc-cfg=cuda_kernels");
            tell_of_sass(&nvcc);
            let mut images = compile(&nvcc, &[&sources[..], &[conformance]].concat(), &out);
            images.truncate(sources.len());
            images
        }
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

/// Where the tools that show machine code stand beside nvcc, tests that read it can run.
fn tell_of_sass(nvcc: &Path) {
    let tool = nvcc.with_file_name("cuobjdump");
    if tool.is_file() && nvcc.with_file_name("nvdisasm").is_file() {
        println!("cargo::rustc-cfg=cuobjdump");
        println!("cargo::rustc-env=PATARM_CUOBJDUMP={}", tool.display());
    }
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

/// One nvcc a source, as many at once as cargo allows; only what is older than anything it may be made of.
fn compile(nvcc: &Path, sources: &[PathBuf], out: &Path) -> Vec<PathBuf> {
    let image = |source: &PathBuf| out.join(source.file_name().expect("a file")).with_extension("fatbin");
    let newest = newest(nvcc, sources);
    let stale: Vec<_> = sources.iter().filter(|source| changed(&image(source)) <= newest).collect();
    let jobs = variable("NUM_JOBS").and_then(|jobs| jobs.to_str()?.parse().ok()).unwrap_or(1).max(1);
    for batch in stale.chunks(jobs) {
        let started: Vec<_> = batch.iter().map(|source| start(nvcc, source, image(source))).collect();
        started.into_iter().for_each(|(image, child)| finish(&image, child));
    }
    sources.iter().map(image).collect()
}

/// When the last of nvcc and all files beside the sources, headers and this one among them, was changed.
fn newest(nvcc: &Path, sources: &[PathBuf]) -> Option<SystemTime> {
    let folder = sources.first()?.parent().expect("a folder");
    let files =
        fs::read_dir(folder).expect("the kernels' folder").map(|entry| entry.expect("an entry").path());
    let files = files.filter(|path| path.is_file()).chain(sources.iter().cloned());
    files.chain([nvcc.to_owned()]).map(|path| changed(&path)).max()?
}

/// When a file was changed; `None`, which is before everything, where there is none.
fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|facts| facts.modified()).ok()
}

fn start(nvcc: &Path, source: &Path, image: PathBuf) -> (PathBuf, Child) {
    let mut command = Command::new(nvcc);
    command.args(["-O3", "-std=c++17", "-lineinfo", "-Werror", "all-warnings", "--compress-mode=size"]);
    command.args(["-fatbin", "-Ikernels", "-o"]).arg(&image);
    command.args(TARGETS.iter().flat_map(|target| ["-gencode", target]));
    let started = command.arg(source).spawn();
    (image, started.unwrap_or_else(|error| panic!("cannot run {}: {error}", nvcc.display())))
}

fn finish(image: &Path, mut child: Child) {
    let ended = child.wait().expect("nvcc ends");
    assert!(ended.success(), "nvcc refused {}: what it says is above", image.display());
}
