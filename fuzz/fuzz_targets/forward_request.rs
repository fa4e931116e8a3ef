//! Requests on their way from one HTTP to another.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::forward::request(bytes);
});
