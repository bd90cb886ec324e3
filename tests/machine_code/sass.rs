//! Reads cuobjdump.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A kernel as one target runs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Code {
    /// Of a thread.
    pub(crate) registers: u32,
    /// Bytes of a thread's stack and local memory.
    pub(crate) local: u32,
    /// Static bytes of a block.
    pub(crate) shared: u32,
    /// How often each instruction stands in the code, by its name up to the first space: `LDG.E.128.CONSTANT`.
    pub(crate) instructions: BTreeMap<String, u32>,
}

impl Code {
    /// Instructions whose name begins with one of `names` and holds `part`.
    pub(crate) fn count(&self, names: &[&str], part: &str) -> u32 {
        let of = |name: &str| names.iter().any(|begin| name.starts_with(begin)) && name.contains(part);
        self.instructions.iter().filter(|(name, _)| of(name)).map(|(_, count)| count).sum()
    }
}

/// Every kernel of an image: (kernel, target) to its code.
pub(crate) type Image = BTreeMap<(String, String), Code>;

/// Every kernel of an image, by what the tool says of its resources and of its instructions.
pub(crate) fn read(image: &Path) -> Image {
    let mut all = Image::new();
    resources(&dump("--dump-resource-usage", image), &mut all);
    instructions(&dump("-sass", image), &mut all);
    all
}

fn dump(what: &str, image: &Path) -> String {
    let output = Command::new(env!("PATARM_CUOBJDUMP")).arg(what).arg(image).output().unwrap();
    assert!(output.status.success(), "cuobjdump {what} {}: {output:?}", image.display());
    String::from_utf8(output.stdout).unwrap()
}

/// ` Function name:`, and on the line after it `  REG:40 STACK:0 SHARED:0 LOCAL:0 ...`.
fn resources(text: &str, all: &mut Image) {
    let (mut target, mut kernel) = ("", "");
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            target = name;
        } else if let Some(name) = line.strip_prefix("Function ") {
            kernel = name.trim_end_matches(':');
        } else if line.starts_with("REG:") {
            let number = |key: &str| -> u32 {
                let word = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix(':'));
                word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {key} in `{line}`"))
            };
            let code = all.entry((kernel.into(), target.into())).or_default();
            (code.registers, code.shared) = (number("REG"), number("SHARED"));
            code.local = number("STACK") + number("LOCAL");
        }
    }
}

/// `arch = sm_80`, `Function : name`, and instructions `/*00f0*/  @!P0 LDG.E.128 R4, [R34.64] ;`.
fn instructions(text: &str, all: &mut Image) {
    let (mut target, mut kernel) = (String::new(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            target = name.into();
        } else if let Some(name) = line.strip_prefix("Function : ") {
            kernel = name.into();
        } else if let Some((_, code)) = line.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
            let mut words = code.split_whitespace().filter(|word| !word.starts_with('@'));
            let Some(name) = words.next().filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
            else {
                continue;
            };
            let code = all.get_mut(&(kernel.clone(), target.clone())).expect("its resources were told");
            *code.instructions.entry(name.trim_end_matches(';').into()).or_default() += 1;
        }
    }
}
