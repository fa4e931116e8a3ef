//! The seeds of the fuzz targets, replayed: hostile bytes that every build must survive.
//!
//! A seed whose name begins with `ok-` must be served, one with `bad-` must not be; of others only an end is asked.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../fuzz/driver.rs"]
mod driver;

use std::path::PathBuf;

use hawser_proxy::detect::{HttpSniff, TlsSniff};

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    all.sort();
    all
}

fn verdict(name: &str, served: bool) {
    if name.starts_with("ok-") {
        assert!(served, "{name} must be taken");
    } else if name.starts_with("bad-") {
        assert!(!served, "{name} must be refused");
    }
}

#[test]
fn client_hellos() {
    for (name, bytes) in seeds("client_hello") {
        verdict(&name, matches!(driver::client_hello(&bytes), TlsSniff::Hello(_)));
    }
}

#[test]
fn first_bytes_of_http() {
    for (name, bytes) in seeds("http_preface") {
        verdict(&name, matches!(driver::http_preface(&bytes), HttpSniff::Http1 | HttpSniff::Http2));
    }
}

#[test]
fn heads_of_requests() {
    for (name, bytes) in seeds("http_head") {
        let answer = driver::http_head(&bytes);
        assert!(answer.len() < 256 * 1024, "{name}: {} bytes of answer", answer.len());
        verdict(&name, answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200"));
    }
}

#[test]
fn requests_of_http1() {
    for (name, bytes) in seeds("h1_request") {
        let answer = driver::http1::request(&bytes);
        assert!(answer.len() < 256 * 1024, "{name}: {} bytes of answer", answer.len());
        verdict(&name, answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200"));
    }
}

#[test]
fn responses_of_http1() {
    for (name, bytes) in seeds("h1_response") {
        verdict(&name, driver::http1::response(&bytes).is_some());
    }
}

#[test]
fn paths() {
    for (name, bytes) in seeds("path") {
        verdict(&name, driver::path(&bytes));
    }
}

#[test]
fn http2_as_a_server() {
    for (name, bytes) in seeds("h2_server") {
        verdict(&name, driver::h2_server(&bytes).is_some_and(|answered| answered > 0));
    }
}

#[test]
fn http2_as_a_client() {
    for (name, bytes) in seeds("h2_client") {
        verdict(&name, driver::h2_client(&bytes) == 3);
    }
}

#[test]
fn header_blocks() {
    for (name, bytes) in seeds("hpack") {
        verdict(&name, driver::hpack(&bytes).is_some());
    }
}

#[test]
fn records_of_tls() {
    for (name, bytes) in seeds("tls_records") {
        verdict(&name, driver::records::records(&bytes).is_some());
    }
}

#[test]
fn there_are_enough_of_them() {
    let targets = ["client_hello", "http_preface", "http_head", "h1_request", "h1_response", "path"];
    let targets = targets.iter().chain(&["h2_server", "h2_client", "hpack", "tls_records"]);
    let count: usize = targets.map(|t| seeds(t).len()).sum();
    assert!(count >= 180, "{count}");
}

/// Nothing but this replay is built everywhere, so that a target could be broken and nobody would see it.
#[test]
fn every_folder_of_seeds_has_a_target_that_is_built() {
    let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for folder in std::fs::read_dir(fuzz.join("seeds")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        let path = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{name} is not in fuzz/Cargo.toml");
        let text = std::fs::read_to_string(fuzz.join(&path)).unwrap();
        assert!(text.contains("fuzz_target!") && text.contains("driver::"), "{path} fuzzes nothing");
    }
}
