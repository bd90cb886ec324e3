//! Tells the crate where it came from and which tests have their data.

use std::path::Path;
use std::process::Command;

#[path = "kernels/build.rs"]
mod kernels;

fn main() {
    kernels::build();
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    for (name, place) in [("shared_data", "data"), ("shared_faults", "faults.md")] {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if shared.join(place).exists() {
            println!("cargo::rustc-cfg={name}");
        }
    }
    find_smollm2();
    println!("cargo::rustc-check-cfg=cfg(tensorboard)");
    println!("cargo::rerun-if-env-changed=PATARM_TENSORBOARD");
    if std::env::var_os("PATARM_TENSORBOARD").is_some() {
        println!("cargo::rustc-cfg=tensorboard");
    }
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    for input in ["src", "models", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rustc-env=PATARM_COMMIT={}", commit());
}

/// Where PATARM_SMOLLM2 says, else beside the checkout.
fn find_smollm2() {
    println!("cargo::rustc-check-cfg=cfg(smollm2)");
    println!("cargo::rerun-if-env-changed=PATARM_SMOLLM2");
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../smollm2-135m");
    let folder = std::env::var_os("PATARM_SMOLLM2").map_or_else(beside, Into::into);
    if folder.join("model.safetensors").is_file() {
        println!("cargo::rustc-cfg=smollm2");
        println!("cargo::rustc-env=PATARM_SMOLLM2_FOLDER={}", folder.display());
    }
}

/// The commit that is built, with a mark where files differ from it.
fn commit() -> String {
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return "unknown".into() };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => commit + "-dirty",
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
