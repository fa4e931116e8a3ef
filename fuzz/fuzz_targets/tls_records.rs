//! Bytes of a stranger: tls records.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::records::records(bytes);
});
