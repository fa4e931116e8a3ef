//! Tokens, identities, host names, messages of the socket of listeners.

#![no_main]
#[path = "../texts.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::short(bytes);
});
