#![no_main]

#[path = "../inputs.rs"]
mod inputs;
#[path = "../last.rs"]
mod last;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    last::keep(bytes);
    inputs::config(bytes);
});
