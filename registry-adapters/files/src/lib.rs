//! A directory of YAML files as a registry.
//!
//! In: `*.yaml` and `*.yml` under a directory, many documents a file, watched. Out: the resources in them as events of
//! `hawser-mesh`, each with its file and line. A bad file is told and keeps what it said before; it takes nothing else
//! down. `watch -> scan -> contents`: when to look, what lies there, what changed by it. Invariant: silence is never
//! deletion; only a directory that could be read as a whole deletes what it no longer holds.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod contents;
mod scan;
mod watch;

use std::path::{Path, PathBuf};

use hawser_mesh::{Publisher, RegistryAdapter, RegistryId, RegistryKind};

/// Follows a directory.
#[derive(Clone, Debug)]
pub struct FilesAdapter {
    directory: PathBuf,
}

impl FilesAdapter {
    /// An adapter of `directory`, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl RegistryAdapter for FilesAdapter {
    fn id(&self) -> RegistryId {
        RegistryId::only(RegistryKind::Files)
    }

    async fn run(self, publisher: Publisher) {
        watch::run(self.directory, publisher).await;
    }
}
