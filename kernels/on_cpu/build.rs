//! Compiles the emulation to one shared object and each kernel to its own, so that a test can load another body in place of
//! one. Unchanged sources are not compiled again.

#[allow(dead_code, reason = "the crate uses the rest")]
#[path = "src/compile.rs"]
mod compile;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs, process, thread};

use compile::{Compiler, Kind, files};

/// One shared object: its sources, and everything whose change makes it stale.
struct Target {
    kind: Kind,
    sources: Vec<PathBuf>,
    inputs: Vec<PathBuf>,
    shared: PathBuf,
}

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package's folder"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names an output folder"));
    let kernels = here.parent().expect("this crate stands in kernels/");
    println!("cargo::rerun-if-changed={}", kernels.display());
    println!("cargo::rerun-if-env-changed=CXX");
    println!("cargo::rustc-env=ON_CPU_OBJECTS={}", out.display());
    let compiler = Compiler::new(kernels);
    let built = compiler.check().and_then(|()| build(&compiler, kernels, &here, &out));
    if let Err(why) = built {
        println!("cargo::error={}", why.replace('\n', "\ncargo::error="));
        process::exit(1);
    }
}

fn build(compiler: &Compiler, kernels: &Path, here: &Path, out: &Path) -> Result<(), String> {
    let targets = targets(kernels, here, out).map_err(|e| format!("the sources of the kernels: {e}"))?;
    forget_removed(&targets, &out.join("kernels")).map_err(|e| format!("{}: {e}", out.display()))?;
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let (waiting, failed) = (Mutex::new(targets.iter()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(target) = { waiting.lock().expect("no worker panics").next() } {
            if let Err(why) = update(compiler, target) {
                failed.lock().expect("no worker panics").push(why);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no worker panics");
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

fn targets(kernels: &Path, here: &Path, out: &Path) -> std::io::Result<Vec<Target>> {
    let emulation = here.join("emulation");
    let headers = files(&emulation, &["h"])?;
    let sources = files(&emulation, &["cpp"])?;
    let mut inputs = headers.clone();
    inputs.extend(sources.clone());
    let mut all = vec![Target { kind: Kind::Emulation, sources, inputs, shared: out.join("emulation.so") }];
    let mut headers = headers;
    headers.extend(files(kernels, &["cuh"])?);
    headers.extend(files(&here.join("conformance"), &["cuh"])?);
    fs::create_dir_all(out.join("kernels"))?;
    let mut sources = files(kernels, &["cu"])?;
    sources.extend(files(&here.join("conformance"), &["cu"])?);
    for source in sources {
        let stem = source.file_stem().expect("a source has a name").to_owned();
        let shared = out.join("kernels").join(stem).with_extension("so");
        let mut inputs = headers.clone();
        inputs.push(source.clone());
        all.push(Target { kind: Kind::Kernel, sources: vec![source], inputs, shared });
    }
    Ok(all)
}

/// What stands in the folder is loaded, so a kernel that is gone must not stay.
fn forget_removed(targets: &[Target], folder: &Path) -> std::io::Result<()> {
    for shared in files(folder, &["so"])? {
        if !targets.iter().any(|target| target.shared == shared) {
            fs::remove_file(shared)?;
        }
    }
    Ok(())
}

fn update(compiler: &Compiler, target: &Target) -> Result<(), String> {
    let stamp = compiler.stamp(target.kind, &target.inputs).map_err(|e| e.to_string())?;
    let stamped = target.shared.with_extension("stamp");
    if target.shared.exists() && fs::read_to_string(&stamped).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    let mut objects = Vec::new();
    for source in &target.sources {
        let stem = source.file_stem().expect("a source has a name");
        let object = target.shared.with_file_name(stem).with_extension("o");
        compiler.object(source, &object, target.kind)?;
        objects.push(object);
    }
    compiler.link(&objects, &target.shared)?;
    fs::write(stamped, stamp).map_err(|e| e.to_string())
}
