//! Sessions of xDS, both ends.

#![no_main]
#[path = "../sessions.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::session(bytes);
});
