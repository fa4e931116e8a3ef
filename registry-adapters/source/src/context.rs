//! What discovery gives an adapter at its start, and keeps of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hawser_mesh::{Hostname, RegistryId};
use tokio::sync::{mpsc, watch};

use crate::Status;

/// Hosts that some proxy subscribes to, kept up to date: what is worth watching closely.
pub type Interest = watch::Receiver<Arc<BTreeSet<Hostname>>>;

/// Words of operators that wait for a source.
const WORDS: usize = 4;

/// What an adapter gets at its start.
#[derive(Debug)]
pub struct Context {
    /// Hosts that some proxy subscribes to.
    pub interest: Interest,
    /// Where the last state is stored; nowhere, if absent.
    pub(crate) file: Option<PathBuf>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) words: mpsc::Receiver<Word>,
}

/// What discovery keeps of an adapter. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    status: watch::Receiver<Status>,
    words: mpsc::Sender<Word>,
}

/// A word of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The loss is meant.
    Accept,
}

impl Context {
    /// What the adapter of a registry gets, and what is kept of it. Its last state is stored under `directory`.
    pub fn new(registry: &RegistryId, directory: Option<&Path>, interest: Interest) -> (Self, Handle) {
        let (status, seen) = watch::channel(Status::default());
        let (sender, words) = mpsc::channel(WORDS);
        let file = directory.map(|directory| directory.join(file_name(registry)));
        (Self { interest, file, status, words }, Handle { status: seen, words: sender })
    }

    /// For an adapter that nobody else watches: in tests.
    pub fn alone(registry: &RegistryId, directory: Option<&Path>) -> (Self, Handle) {
        Self::new(registry, directory, watch::channel(Arc::default()).1)
    }
}

impl Handle {
    /// How the source is.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// How it is, each time that changes.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Says that a loss is meant. `false` if the source is not frozen.
    pub fn accept(&self) -> bool {
        // A queue that is full holds the same word already.
        self.status.borrow().frozen.is_some()
            && !matches!(self.words.try_send(Word::Accept), Err(mpsc::error::TrySendError::Closed(_)))
    }
}

/// A name of its own for every registry, whatever is in it.
fn file_name(registry: &RegistryId) -> String {
    let mut name = String::new();
    for byte in registry.to_string().bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            other => name.push_str(&format!("_{other:02x}")),
        }
    }
    name + ".state"
}

#[cfg(test)]
mod tests {
    use hawser_mesh::RegistryKind;

    use super::*;

    #[test]
    fn every_registry_has_a_file_of_its_own() {
        let name = |name: &str| file_name(&RegistryId { kind: RegistryKind::Consul, name: name.into() });
        assert_eq!(name("dc1"), "consul_2fdc1.state");
        assert_eq!(name("../a_b"), "consul_2f_2e_2e_2fa_5fb.state");
        assert_ne!(name("A"), name("a"));
    }
}
