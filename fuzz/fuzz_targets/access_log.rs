//! Lines of access logs about what strangers say.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::access_log::lines(bytes);
});
