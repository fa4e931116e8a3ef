//! Epoch and attempt: what tells this host from an older twin of it.
//!
//! In: the epoch that discovery gave. Out: the pair to ask with. The pair is on disk before it is sent; it is asked
//! again, unchanged, until an answer came, so that a lost answer costs nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::state::StateDir;

const FILE: &str = "session";

/// The pairs of one record. Those of an earlier record on the same disk mean nothing to it.
#[derive(Clone, Debug)]
pub(crate) struct Epochs {
    state: StateDir,
    instance: String,
}

/// Removes the pairs.
pub(crate) fn forget(state: &StateDir) -> anyhow::Result<()> {
    Ok(state.remove(FILE)?)
}

/// A pair to ask with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) epoch: u64,
    pub(crate) attempt: [u8; 16],
}

#[derive(Default, Serialize, Deserialize)]
struct OnDisk {
    instance: String,
    epoch: u64,
    attempt: Option<String>,
}

impl Epochs {
    /// The pairs of a record, kept in a directory.
    pub(crate) fn new(state: StateDir, instance: &str) -> Self {
        Self { state, instance: instance.to_owned() }
    }

    /// The pair that was asked and not answered, or a new one, kept before it is returned.
    pub(crate) fn pending(&self) -> anyhow::Result<Pending> {
        let on_disk = self.read()?;
        if let Some(attempt) = on_disk.attempt.as_deref().and_then(decode) {
            return Ok(Pending { epoch: on_disk.epoch, attempt });
        }
        let pending = Pending { epoch: on_disk.epoch, attempt: rand::random() };
        let attempt = Some(URL_SAFE_NO_PAD.encode(pending.attempt));
        self.write(pending.epoch, attempt)?;
        Ok(pending)
    }

    /// The answer: the next pair starts from it.
    pub(crate) fn opened(&self, epoch: u64) -> anyhow::Result<()> {
        self.write(epoch, None)
    }

    fn read(&self) -> anyhow::Result<OnDisk> {
        let on_disk: OnDisk = match self.state.read_sealed(FILE)? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None => OnDisk::default(),
        };
        Ok(if on_disk.instance == self.instance { on_disk } else { OnDisk::default() })
    }

    fn write(&self, epoch: u64, attempt: Option<String>) -> anyhow::Result<()> {
        let on_disk = OnDisk { instance: self.instance.clone(), epoch, attempt };
        Ok(self.state.write_sealed(FILE, &serde_json::to_vec(&on_disk)?)?)
    }
}

fn decode(text: &str) -> Option<[u8; 16]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_pair_is_asked_until_it_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let epochs = Epochs::new(state.clone(), "one");
        let first = epochs.pending().unwrap();
        assert_eq!((first.epoch, epochs.pending().unwrap()), (0, first));
        epochs.opened(1).unwrap();
        let second = epochs.pending().unwrap();
        assert_eq!(second.epoch, 1);
        assert_ne!(second.attempt, first.attempt);
        assert_eq!(Epochs::new(state, "another").pending().unwrap().epoch, 0);
    }
}
