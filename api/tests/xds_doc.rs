//! docs/xds.md says what the .proto files say. `HAWSER_BLESS=1` writes it.

use std::path::Path;

#[test]
fn the_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/xds.md");
    let page = hawser_api::doc::xds().unwrap();
    if std::env::var_os("HAWSER_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/xds.md is out of date; run: cargo xtask docs");
}
