//! Bytes of a stranger: http preface.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::http_preface(bytes);
});
