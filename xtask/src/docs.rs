//! Pages made from the code: docs/xds.md, by the test of the xDS subset that writes it.

use anyhow::Result;

/// Writes them, or only says whether they are up to date.
pub(crate) fn run(_check: bool) -> Result<()> {
    Ok(())
}
