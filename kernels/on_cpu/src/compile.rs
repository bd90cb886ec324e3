//! How a host compiler turns the emulation and kernels into shared objects. The build script and the mutation run share it.

use std::env;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// Flags of everything. No contraction into FMA: what is written is what is computed.
const ALL: [&str; 7] = ["-std=c++20", "-O2", "-g", "-fPIC", "-ffp-contract=off", "-march=x86-64-v3", "-Wall"];

/// Flags of the emulation: it exports what it says it does, and nothing else.
const EMULATION: [&str; 1] = ["-fvisibility=hidden"];

/// Flags of kernels: every access is announced to the emulation, uninitialised locals hold garbage, a frame that is too big
/// meets the guard page, and loops unroll only where the source says so.
const KERNEL: [&str; 9] = [
    "-xc++",
    "-fno-exceptions",
    "-fstack-clash-protection",
    "-ftrivial-auto-var-init=pattern",
    "-fsanitize=thread,alignment,bounds-strict,object-size,shift,integer-divide-by-zero",
    "--param=tsan-instrument-func-entry-exit=0",
    "-Wno-unknown-pragmas",
    "-Wno-psabi",
    "-fvisibility=hidden",
];

/// What a source belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Compiled as it is.
    Emulation,
    /// Compiled to be checked.
    Kernel,
}

/// A g++ and the folder `kernels/`.
#[derive(Debug, Clone)]
pub struct Compiler {
    program: OsString,
    kernels: PathBuf,
}

impl Compiler {
    /// What `$CXX` names, else g++, with the headers of `kernels`.
    pub fn new(kernels: &Path) -> Self {
        Self { program: env::var_os("CXX").unwrap_or_else(|| "g++".into()), kernels: kernels.to_owned() }
    }

    /// Whether the compiler is there and is one that can do it.
    ///
    /// # Errors
    /// What to install.
    pub fn check(&self) -> Result<(), String> {
        let named = self.program.to_string_lossy();
        let advice = "the CPU harness of the CUDA kernels needs g++ 11 or later (Debian: apt-get install g++ binutils); \
                      set CXX where it has another name";
        let output = Command::new(&self.program).arg("-dumpfullversion").output();
        let output = output.map_err(|e| format!("`{named}` cannot be run ({e}): {advice}"))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        if major < 11 { Err(format!("`{named}` is version `{version}`: {advice}")) } else { Ok(()) }
    }

    /// Compiles one source.
    ///
    /// # Errors
    /// What the compiler said.
    pub fn object(&self, source: &Path, object: &Path, kind: Kind) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command
            .args(ALL)
            .args(flags(kind))
            .arg("-I")
            .arg(&self.kernels)
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(object);
        run(&mut command)
    }

    /// Links objects. Symbols that are left open are found when the shared object is loaded.
    ///
    /// # Errors
    /// What the linker said.
    pub fn link(&self, objects: &[PathBuf], shared: &Path) -> Result<(), String> {
        run(Command::new(&self.program).arg("-shared").args(objects).arg("-o").arg(shared))
    }

    /// One kernel source, compiled and linked.
    ///
    /// # Errors
    /// What the compiler said.
    pub fn kernel(&self, source: &Path, shared: &Path) -> Result<(), String> {
        let object = shared.with_extension("o");
        self.object(source, &object, Kind::Kernel)?;
        self.link(&[object], shared)
    }

    /// Changes whenever the compiler, its flags or one of `inputs` do.
    ///
    /// # Errors
    /// An input that cannot be read.
    pub fn stamp(&self, kind: Kind, inputs: &[PathBuf]) -> io::Result<String> {
        let mut hasher = DefaultHasher::new();
        (&self.program, ALL, flags(kind)).hash(&mut hasher);
        for input in inputs {
            (input, fs::read(input)?).hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }
}

fn flags(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Emulation => &EMULATION,
        Kind::Kernel => &KERNEL,
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}\n{said}")) }
}

/// The files of a folder whose names end with one of these, in order.
///
/// # Errors
/// A folder that cannot be read.
pub fn files(folder: &Path, endings: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
