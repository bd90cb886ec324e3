//! The input at hand, kept in a file: a process that a signal ends (a stack that overflows, memory that is not to be had)
//! leaves it behind, where libFuzzer itself comes to no report.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Writes the input to `fuzz_input_PID` in the folder of temporary files, `TMPDIR`: best one in memory.
pub(crate) fn keep(bytes: &[u8]) {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let name = format!("fuzz_input_{}", std::process::id());
        File::create(std::env::temp_dir().join(name)).expect("room")
    });
    file.set_len(bytes.len() as u64).and_then(|()| file.write_all_at(bytes, 0)).expect("room");
}
