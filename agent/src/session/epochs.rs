//! Epoch and attempt: what tells this host from an older twin of it.
//!
//! In: the epoch that discovery gave. Out: the pair to ask with. The pair is on disk before it is sent; it is asked
//! again, unchanged, until an answer came, so that a lost answer costs nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::state::StateDir;

const FILE: &str = "session";

/// The pairs of this host.
#[derive(Clone, Debug)]
pub(crate) struct Epochs(StateDir);

/// A pair to ask with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) epoch: u64,
    pub(crate) attempt: [u8; 16],
}

#[derive(Default, Serialize, Deserialize)]
struct OnDisk {
    epoch: u64,
    attempt: Option<String>,
}

impl Epochs {
    /// The pairs kept in a directory.
    pub(crate) fn new(state: StateDir) -> Self {
        Self(state)
    }

    /// The pair that was asked and not answered, or a new one, kept before it is returned.
    pub(crate) fn pending(&self) -> anyhow::Result<Pending> {
        let on_disk = self.read()?;
        if let Some(attempt) = on_disk.attempt.as_deref().and_then(decode) {
            return Ok(Pending { epoch: on_disk.epoch, attempt });
        }
        let pending = Pending { epoch: on_disk.epoch, attempt: rand::random() };
        let attempt = Some(URL_SAFE_NO_PAD.encode(pending.attempt));
        self.write(&OnDisk { epoch: pending.epoch, attempt })?;
        Ok(pending)
    }

    /// The answer: the next pair starts from it.
    pub(crate) fn opened(&self, epoch: u64) -> anyhow::Result<()> {
        self.write(&OnDisk { epoch, attempt: None })
    }

    /// Forgets all.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        Ok(self.0.remove(FILE)?)
    }

    fn read(&self) -> anyhow::Result<OnDisk> {
        match self.0.read_sealed(FILE)? {
            Some(bytes) => Ok(serde_json::from_slice(&bytes)?),
            None => Ok(OnDisk::default()),
        }
    }

    fn write(&self, on_disk: &OnDisk) -> anyhow::Result<()> {
        Ok(self.0.write_sealed(FILE, &serde_json::to_vec(on_disk)?)?)
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
        let epochs = Epochs::new(StateDir::open(dir.path()).unwrap());
        let first = epochs.pending().unwrap();
        assert_eq!((first.epoch, epochs.pending().unwrap()), (0, first));
        epochs.opened(1).unwrap();
        let second = epochs.pending().unwrap();
        assert_eq!(second.epoch, 1);
        assert_ne!(second.attempt, first.attempt);
    }
}
