//! Queries for names, and what name servers answer.

#![no_main]
#[path = "../agent.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::dns(bytes);
});
