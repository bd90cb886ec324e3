#![no_main]

#[path = "../inputs.rs"]
mod inputs;

// libFuzzer ends at any panic, also at those that the reader of Parquet files is known to raise and `preference` catches.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| inputs::pairs(bytes)
);
