//! Which test launches kernels of which source: what a mutation run has to repeat.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::{env, thread};

/// Notes in the file that `ON_CPU_TRACE` names, once, that the test of this thread launches a kernel of `stem`. Test
/// harnesses name the threads on which tests run after the tests.
pub(crate) fn note(stem: &str) {
    static NOTED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);
    let Some(file) = env::var_os("ON_CPU_TRACE") else { return };
    let line = format!("{} {stem}\n", thread::current().name().unwrap_or("main"));
    if !NOTED.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
        return;
    }
    let file = OpenOptions::new().create(true).append(true).open(file);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the file that ON_CPU_TRACE names can be written");
}
