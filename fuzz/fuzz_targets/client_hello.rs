//! Bytes of a stranger: client hello.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::client_hello(bytes);
});
