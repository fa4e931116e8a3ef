//! Bytes of a stranger: h2 client.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::h2_client(bytes);
});
