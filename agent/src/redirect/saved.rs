//! What redirection keeps on disk: the intent, how it was loaded, and a commit that waits for confirmation.
//!
//! Files are written beside, synced and renamed, so a killed agent finds the old state or the new one. A claim on a
//! waiting commit is a rename too: of two that want to end it, one wins.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::intent::Intent;

/// The state of the table, in `redirect.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// What was asked for.
    pub(super) intent: Intent,
    /// Whether it is being taken down.
    #[serde(default)]
    pub(super) removing: bool,
    /// How the kernel shows it, without counters and elements; absent while it is being loaded.
    #[serde(default)]
    pub(super) loaded: Option<Loaded>,
}

/// What a load left in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loaded {
    /// Our own rendering, without elements: another one is a reason to load again.
    pub(super) plan: String,
    /// nft's listing.
    pub(super) listing: String,
}

/// A commit that waits, in `redirect-pending.json`: what to go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// Absent: there was no redirection before.
    pub(super) previous: Option<Intent>,
}

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

const SAVED: &str = "redirect.json";
const WAITING: &str = "redirect-pending.json";

impl Store {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// What is saved. A file that can't be read as ours counts as none, and is reported: the table can always be
    /// removed or loaded anew.
    pub(super) fn saved(&self) -> io::Result<Option<Saved>> {
        self.read(SAVED)
    }

    pub(super) fn save(&self, saved: &Saved) -> io::Result<()> {
        self.write(SAVED, saved)
    }

    pub(super) fn clear(&self) -> io::Result<()> {
        gone(fs::remove_file(self.dir.join(SAVED)))
    }

    pub(super) fn wait(&self, waiting: &Waiting) -> io::Result<()> {
        self.write(WAITING, waiting)
    }

    /// Ends the wait; what to go back to, or `None` if somebody else ended it.
    pub(super) fn claim(&self) -> io::Result<Option<Waiting>> {
        let claimed = self.dir.join(format!("{WAITING}.{}", std::process::id()));
        match fs::rename(self.dir.join(WAITING), &claimed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        }
        let text = fs::read(&claimed)?;
        fs::remove_file(&claimed)?;
        Ok(Some(serde_json::from_slice(&text).unwrap_or(Waiting { previous: None })))
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.dir.join(name);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match serde_json::from_slice(&text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "saved redirection can't be read and is ignored");
                Ok(None)
            }
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let beside = self.dir.join(format!("{name}.new"));
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&beside, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
