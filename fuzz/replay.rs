//! The seeds of a target, for the tests that replay them.
//!
//! A seed whose name begins with `ok-` must be served, one with `bad-` must not be; of others only an end is asked.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;

/// All of a target, by name.
pub(crate) fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let crate_root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let mut all: Vec<_> = std::fs::read_dir(crate_root.join("../fuzz/seeds").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    assert!(!all.is_empty());
    all.sort();
    all
}

/// Whether a seed came to what its name says.
pub(crate) fn verdict(name: &str, served: bool) {
    if name.starts_with("ok-") {
        assert!(served, "{name} must be taken");
    } else if name.starts_with("bad-") {
        assert!(!served, "{name} must be refused");
    }
}
