//! What name servers answer to the proxy.

#![no_main]
#[path = "../driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::dns_answer(bytes);
});
