//! Responses of HTTP/1 and their bodies, as a client reads them.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::http1::response(bytes);
});
