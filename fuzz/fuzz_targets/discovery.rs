//! Certificate requests, joins and nodes, as discovery meets them.

#![no_main]
#[path = "../discovery.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::stranger(bytes);
});
