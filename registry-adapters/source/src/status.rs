//! How a source is, for operators.

use std::time::SystemTime;

/// How a source is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// It said everything once, in this run or, by the stored state, in an earlier one.
    pub synced: bool,
    /// It is silent: since when, and why.
    pub stale: Option<Trouble>,
    /// It lost much at once, and nothing is removed: since when, why, and what to do.
    pub frozen: Option<Trouble>,
    /// When it last answered in this run.
    pub last_contact: Option<SystemTime>,
    /// When the state was written that this run began with.
    pub loaded: Option<SystemTime>,
    /// Parts: services of the source.
    pub parts: usize,
    /// Objects that discovery holds of it.
    pub objects: usize,
    /// What of it is not seen.
    pub unseen: Unseen,
}

/// What of a source is not seen, though it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Its namespaces that the mesh's configuration leaves out: the first of them, by name.
    pub left_out: Vec<String>,
    /// How many there are.
    pub left_out_count: usize,
    /// What it does not let us see or write, why, and the cure.
    pub refused: Vec<String>,
}

/// A trouble that operators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when.
    pub since: SystemTime,
    /// Cause and cure.
    pub why: String,
}

impl Status {
    /// `frozen`, `stale`, `synced` or `syncing`: the worst that is so.
    pub fn state(&self) -> &'static str {
        match self {
            Self { frozen: Some(_), .. } => "frozen",
            Self { stale: Some(_), .. } => "stale",
            Self { synced: true, .. } => "synced",
            _ => "syncing",
        }
    }

    /// What is wrong, in sentences.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.frozen.iter().chain(&self.stale).map(|trouble| trouble.why.as_str())
    }
}
