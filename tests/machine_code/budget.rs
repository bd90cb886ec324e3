//! Rules that every kernel keeps, and the table of what each takes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::sass::{Code, Image, read};

/// Stems whose kernels move memory and do little else: they have accesses of 16 bytes.
const STREAMING: [&str; 13] = [
    "adamw",
    "bandwidth",
    "bias",
    "embedding",
    "grad_norm",
    "kv_append",
    "kv_copy",
    "rms_norm",
    "rope",
    "rows",
    "sample",
    "scale",
    "swiglu",
];
/// Their kernels, by how their names begin, that need none, and why.
const NARROW: [(&str, &str); 5] = [
    ("bandwidth_nothing", "moves nothing: what a launch takes"),
    ("bias_forward_bf16_any", "serves rows that are no whole number of pieces"),
    ("bias_backward_bf16_any", "serves rows that are no whole number of pieces"),
    ("bias_sums_f32", "adds a few rows of partial sums, one column a thread"),
    ("rms_norm_gain_sums_f32", "adds a few rows of partial sums, one column a thread"),
];
/// Stems whose kernels multiply matrices.
const TENSOR: [&str; 6] = [
    "attention_backward",
    "attention_backward_wgmma",
    "attention_forward",
    "attention_forward_wgmma",
    "head",
    "product",
];
/// Their kernels that do not, and why.
const SCALAR: [(&str, &str); 2] = [
    ("attention_backward_bf16_statistics", "sums dout out along rows"),
    ("head_narrow_bf16", "rounds the scores' gradient"),
];
/// Stems whose kernels for warpgroups are fed by bulk copies of boxes.
const FED: [&str; 3] = ["attention_forward_wgmma", "head", "product"];
/// Kernels with local memory: bytes of a thread at most, and what they cost.
const LOCAL: [(&str, u32, &str); 0] = [];

const TARGETS: [&str; 2] = ["sm_80", "sm_90a"];
const GLOBAL: [&str; 3] = ["LDG", "STG", "LDGSTS"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every embedded image by its stem, read once.
fn images() -> &'static BTreeMap<String, Image> {
    static IMAGES: OnceLock<BTreeMap<String, Image>> = OnceLock::new();
    IMAGES.get_or_init(read_images)
}

fn read_images() -> BTreeMap<String, Image> {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let sources = root().join("kernels").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let stems =
        sources.filter(|path| path.extension().is_some_and(|ext| ext == "cu")).map(|path| stem(&path));
    let folder = Path::new(env!("OUT_DIR"));
    stems.map(|stem| (stem.clone(), read(&folder.join(stem).with_extension("fatbin")))).collect()
}

/// What is wrong with a kernel, in words.
fn breaches(stem: &str, kernel: &str, target: &str, code: &Code) -> Vec<String> {
    let excused = |list: &[(&str, &str)]| list.iter().any(|(name, _)| kernel.starts_with(name));
    let mut found = Vec::new();
    let allowed = LOCAL.iter().find(|(name, ..)| *name == kernel).map_or(0, |(_, bytes, _)| *bytes);
    let spilled = code.count(&["LDL", "STL"], "");
    if code.local > allowed || (spilled > 0 && allowed == 0) {
        found.push(format!("{} bytes of local memory, {spilled} accesses to it", code.local));
    }
    if STREAMING.contains(&stem) && !excused(&NARROW) && code.count(&GLOBAL, ".128") == 0 {
        found.push("no access of 16 bytes".into());
    }
    // Without a body where the hardware has no warpgroup instructions; nobody launches them there.
    let warpgroup = kernel.ends_with("_wgmma");
    let tensor = match (warpgroup, target) {
        (true, "sm_80") => u32::MAX,
        (true, _) => code.count(&["HGMMA"], ""),
        (false, _) => code.count(&["HMMA"], ""),
    };
    if TENSOR.contains(&stem) && !excused(&SCALAR) && tensor == 0 {
        found.push("no tensor-core instruction".into());
    }
    if warpgroup && target == "sm_90a" && FED.contains(&stem) && code.count(&["UTMALDG"], "") == 0 {
        found.push("no bulk copy of a box".into());
    }
    found.into_iter().map(|what| format!("{kernel} on {target}: {what}")).collect()
}

#[test]
fn kernels_keep_within_their_budgets() {
    let all = images();
    assert!(STREAMING.iter().chain(&TENSOR).all(|stem| all.contains_key(*stem)), "a stem was renamed");
    let found: Vec<String> = all
        .iter()
        .flat_map(|(stem, image)| {
            image.iter().map(move |((kernel, target), code)| (stem, kernel, target, code))
        })
        .flat_map(|(stem, kernel, target, code)| breaches(stem, kernel, target, code))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_kernel_has_code_for_both_targets() {
    for (stem, image) in images() {
        for (kernel, _) in image.keys() {
            let has = |target: &&str| image.contains_key(&(kernel.clone(), (*target).to_string()));
            assert!(TARGETS.iter().all(has), "{stem}: {kernel}");
        }
    }
}

/// The table for people: a line a kernel.
fn table() -> String {
    let mut text = String::from(
        "# Machine code of the kernels\n\n\
         Read out of the images that a build with nvcc 13.0 embeds; written by \
         `PATARM_WRITE_TABLES=1 cargo test --test machine_code`. For sm_80 / sm_90a: registers of a thread, static shared memory \
         of a block in bytes, tensor-core instructions (HMMA / HGMMA where there are such), global accesses of 16 bytes of all.\n\n\
         | kernel | registers | shared | tensor core | 16 bytes wide |\n|---|---|---|---|---|\n",
    );
    for image in images().values() {
        let kernels: Vec<&String> =
            image.keys().filter(|(_, t)| t == TARGETS[0]).map(|(kernel, _)| kernel).collect();
        for kernel in kernels {
            let of = |tell: &dyn Fn(&Code) -> String| {
                TARGETS.map(|target| tell(&image[&(kernel.clone(), target.into())])).join(" / ")
            };
            let registers = of(&|code| code.registers.to_string());
            let shared = of(&|code| code.shared.to_string());
            let tensor = of(&|code| match (code.count(&["HMMA"], ""), code.count(&["HGMMA"], "")) {
                (0, 0) => "-".into(),
                (warp, 0) => warp.to_string(),
                (_, group) => format!("{group} HGMMA"),
            });
            let wide = of(&|code| format!("{} of {}", code.count(&GLOBAL, ".128"), code.count(&GLOBAL, "")));
            writeln!(text, "| `{kernel}` | {registers} | {shared} | {tensor} | {wide} |").unwrap();
        }
    }
    text
}

#[test]
fn the_table_in_the_docs_is_that_of_this_build() {
    let (path, table) = (root().join("kernels/machine_code.md"), table());
    if std::env::var_os("PATARM_WRITE_TABLES").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(table.lines()).find(|(old, new)| old != new);
    assert!(written == table, "PATARM_WRITE_TABLES=1 cargo test --test machine_code; first: {differs:?}");
}
