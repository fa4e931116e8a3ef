//! Bytes of a stranger: path.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::path(bytes);
});
