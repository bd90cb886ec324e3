#![no_main]

#[path = "../inputs.rs"]
mod inputs;
#[path = "../last.rs"]
mod last;

// libFuzzer ends at any panic, also at those that the reader of Parquet files is known to raise and `preference` catches.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| {
        last::keep(bytes);
        inputs::pairs(bytes);
    }
);
