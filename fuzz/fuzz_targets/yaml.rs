//! Istio's YAML.

#![no_main]
#[path = "../texts.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    driver::yaml(bytes);
});
