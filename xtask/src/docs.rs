//! Pages made from the code: docs/xds.md, by the test of the xDS subset that writes it.

use std::process::Command;

use anyhow::Result;

/// Writes them, or only says whether they are up to date.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut test = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    test.args(["test", "-p", "hawser-api", "--test", "xds_doc"]).current_dir(crate::root());
    if !check {
        test.env("HAWSER_BLESS", "1");
    }
    crate::must(test)
}
