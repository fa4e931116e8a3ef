//! The seeds of the fuzz targets, replayed: hostile bytes that every build must survive.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../fuzz/driver.rs"]
mod driver;
#[path = "../../fuzz/replay.rs"]
mod replay;

use std::path::PathBuf;

use hawser_proxy::detect::{HttpSniff, TlsSniff};
use replay::{seeds, verdict};

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
fn requests_between_two_codecs() {
    for (name, bytes) in seeds("forward_request") {
        verdict(&name, driver::forward::request(&bytes) > 0);
    }
}

#[test]
fn responses_between_two_codecs() {
    for (name, bytes) in seeds("forward_response") {
        verdict(&name, driver::forward::response(&bytes));
    }
}

#[test]
fn lines_of_access_logs() {
    for (_, bytes) in seeds("access_log") {
        driver::access_log::lines(&bytes);
    }
}

#[test]
fn paths() {
    for (name, bytes) in seeds("path") {
        verdict(&name, driver::path(&bytes));
    }
}

#[test]
fn answers_of_name_servers() {
    for (name, bytes) in seeds("dns_answer") {
        verdict(&name, driver::dns_answer(&bytes));
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

/// Nothing but the replay is built everywhere: without it a target could be broken, and nobody would see it.
#[test]
fn every_target_has_seeds_that_are_replayed() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let manifest = read("fuzz/Cargo.toml");
    let replays = ["agent", "api", "discovery", "proxy", "xds"].map(|name| read(&format!("{name}/tests/seeds.rs")));
    let mut count = 0;
    for target in std::fs::read_dir(root.join("fuzz/fuzz_targets")).unwrap() {
        let path = target.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/Cargo.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("fuzz_target!") && text.contains("driver::"), "{name} fuzzes nothing");
        let named = format!("seeds(\"{name}\")");
        assert!(replays.iter().any(|replay| replay.contains(&named)), "the seeds of {name} are not replayed");
        count += seeds(name).len();
    }
    assert!(count >= 450, "{count}");
}
