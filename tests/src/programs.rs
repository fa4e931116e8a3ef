//! Where the built programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The directory of the built programs: `HAWSER_BIN_DIR`, else where this program itself was built.
///
/// # Errors
/// If this program was not built by cargo.
pub fn directory() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("HAWSER_BIN_DIR") {
        return Ok(dir.into());
    }
    let mut dir = std::env::current_exe().context("where is this program?")?;
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    Ok(dir)
}

/// A built program by name.
///
/// # Errors
/// If it is not there; says how to build it.
pub fn find(name: &str) -> Result<PathBuf> {
    let path = directory()?.join(name);
    if !path.is_file() {
        bail!("{} is missing; build it first: cargo build --workspace", path.display());
    }
    Ok(path)
}

/// The root of the source tree.
pub fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
