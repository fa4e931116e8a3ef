//! What `cargo xtask dist --debug` has made, for tests of packages.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::programs;

/// Packages of one build and of the next, and repositories with both.
#[derive(Clone, Debug)]
pub struct Dist {
    first: PathBuf,
    next: PathBuf,
}

impl Dist {
    /// What is in `target/dist-debug` and `target/dist-debug-next`.
    ///
    /// # Errors
    /// If nothing was made.
    pub fn find() -> Result<Self> {
        let target = programs::source_root().join("target");
        let dist = Self { first: target.join("dist-debug"), next: target.join("dist-debug-next") };
        for dir in [&dist.first, &dist.next] {
            if !dir.join("SHA256SUMS").is_file() {
                bail!("{} is missing or not whole; make it first: cargo xtask dist --debug --next", dir.display());
            }
        }
        Ok(dist)
    }

    /// The first build.
    pub fn first(&self) -> &Path {
        &self.first
    }

    /// The next one, whose repositories hold the first too.
    pub fn next(&self) -> &Path {
        &self.next
    }
}
