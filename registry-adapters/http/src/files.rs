//! Lists of targets in files.
//!
//! In: paths, the last part of which may have one `*`. Out: the targets of all. Invariants: a file that can't be read,
//! or is not understood, keeps what it said; so does one that is named and gone; only a file that matched a `*` and is
//! no longer in its directory is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hawser_registry_source::Fingerprint;
use hawser_registry_source::poll::{Answer, Failure, Poll};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::targets::{self, MAX_TEXT, Said, Target};

/// Time between looks that nothing asked for.
pub(crate) const SAFETY_NET: Duration = Duration::from_secs(5);
/// Quiet time after a change before it is looked at.
const SETTLE: Duration = Duration::from_millis(100);
/// Most files.
const MAX_FILES: usize = 5_000;

/// Whether a path may be one of ours.
///
/// # Errors
/// Why not.
pub(crate) fn check(path: &Path) -> Result<(), &'static str> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("it names no file")?;
    if name.matches('*').count() > 1 || path.parent().is_some_and(|parent| parent.to_string_lossy().contains('*')) {
        return Err("one * may stand in its last part");
    }
    match path.extension().and_then(|e| e.to_str()) {
        Some("json" | "yaml" | "yml") => Ok(()),
        _ => Err("it ends in .json, .yaml or .yml"),
    }
}

/// Lists in files.
#[derive(Debug)]
pub(crate) struct Files {
    patterns: Vec<PathBuf>,
    known: BTreeMap<PathBuf, Known>,
    /// The last look found everything as it should be.
    last: Option<Fingerprint>,
    changed: mpsc::Receiver<()>,
    sender: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
struct Known {
    fingerprint: Fingerprint,
    targets: Vec<Target>,
}

impl Files {
    pub(crate) fn new(patterns: Vec<PathBuf>) -> Self {
        let (sender, changed) = mpsc::channel(1);
        let (watcher, watched) = (None, BTreeSet::new());
        Self { patterns, known: BTreeMap::new(), last: None, changed, sender, watcher, watched }
    }

    /// Watches the directories that exist now.
    fn watch(&mut self) {
        let directories = self.patterns.iter().filter_map(|pattern| pattern.parent()).filter(|d| d.is_dir());
        let directories: BTreeSet<PathBuf> = directories.map(Path::to_owned).collect();
        if self.watcher.is_some() && directories == self.watched {
            return;
        }
        let sender = self.sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let read = |event: &notify::Event| event.kind.is_access();
            if !event.as_ref().is_ok_and(read) {
                // A full channel holds the same word already.
                let _ = sender.try_send(());
            }
        });
        self.watcher = watcher.ok().and_then(|mut watcher| {
            let each = directories.iter().try_for_each(|d| watcher.watch(d, RecursiveMode::NonRecursive));
            each.ok().map(|()| watcher)
        });
        self.watched = directories;
    }
}

impl Poll for Files {
    type Answer = Said;

    async fn poll(&mut self) -> Result<Answer<Said>, Failure> {
        // Before the look, so that nothing falls between.
        self.watch();
        let (patterns, known) = (self.patterns.clone(), std::mem::take(&mut self.known));
        let looked = tokio::task::spawn_blocking(move || look(&patterns, known)).await;
        let (known, problems) = looked.map_err(|e| Failure(e.to_string()))?;
        self.known = known;
        let partial = problems.values().any(|problem| problem.unknown);
        let problems: BTreeMap<String, String> = problems.into_iter().map(|(name, p)| (name, p.why)).collect();
        if let Some((name, why)) = problems.first_key_value().filter(|_| self.known.is_empty()) {
            self.last = None;
            return Err(Failure(format!("{name}: {why}")));
        }
        let prints: Vec<_> = self.known.iter().map(|(path, known)| (path, known.fingerprint)).collect();
        let print = Fingerprint::of(&(prints, &problems));
        let targets = || self.known.values().flat_map(|known| known.targets.iter().cloned()).collect();
        let said = (self.last != Some(print)).then(|| Said { targets: targets(), problems, partial });
        self.last = Some(print);
        Ok(Answer { said, next: Some(SAFETY_NET) })
    }

    async fn hint(&mut self) {
        if self.changed.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(SETTLE).await;
        while self.changed.try_recv().is_ok() {}
    }
}

/// What is wrong with a file.
struct Problem {
    why: String,
    /// It never said anything.
    unknown: bool,
}

/// What the files say now, and what is wrong with them.
fn look(
    patterns: &[PathBuf],
    mut known: BTreeMap<PathBuf, Known>,
) -> (BTreeMap<PathBuf, Known>, BTreeMap<String, Problem>) {
    let mut problems = BTreeMap::new();
    let mut found = BTreeSet::new();
    for pattern in patterns {
        match matching(pattern) {
            Ok(paths) => found.extend(paths),
            Err(error) => {
                // Nothing is known of what is gone.
                let before = found.len();
                found.extend(known.keys().filter(|path| matches(pattern, path)).cloned());
                let problem = Problem { why: error.to_string(), unknown: found.len() == before };
                problems.insert(pattern.to_string_lossy().into_owned(), problem);
            }
        }
    }
    if found.len() > MAX_FILES {
        let why = format!("{} files match; {MAX_FILES} are the most", found.len());
        problems.insert("files".to_owned(), Problem { why, unknown: true });
        return (known, problems);
    }
    known.retain(|path, _| found.contains(path));
    for path in found {
        match parse(&path, known.get(&path)) {
            Ok(None) => {}
            Ok(Some(new)) => {
                known.insert(path, new);
            }
            Err(why) => {
                let unknown = !known.contains_key(&path);
                let stays = if unknown { "" } else { "; what it said stays until it is right" };
                let problem = Problem { why: format!("{why}{stays}"), unknown };
                problems.insert(path.to_string_lossy().into_owned(), problem);
            }
        }
    }
    (known, problems)
}

/// What a file says; `None` if that is what it said before.
fn parse(path: &Path, before: Option<&Known>) -> Result<Option<Known>, String> {
    let text = read(path).map_err(|e| e.to_string())?;
    let fingerprint = Fingerprint::of(&text);
    if before.is_some_and(|known| known.fingerprint == fingerprint) {
        return Ok(None);
    }
    let targets = match path.extension().is_some_and(|e| e == "json") {
        true => targets::json(&text)?,
        false => targets::yaml(&String::from_utf8(text).map_err(|_| "it is not UTF-8; save it as UTF-8")?)?,
    };
    Ok(Some(Known { fingerprint, targets }))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    // A name that a pipe or device hides behind must not be opened: that could block.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(MAX_TEXT as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn matching(pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    if !name.contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    let directory = pattern.parent().unwrap_or(Path::new("."));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if matches(pattern, &path) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn matches(pattern: &Path, path: &Path) -> bool {
    let (Some(pattern_name), Some(name)) = (pattern.file_name(), path.file_name()) else { return false };
    let (pattern_name, name) = (pattern_name.to_string_lossy(), name.to_string_lossy());
    let same = match pattern_name.split_once('*') {
        None => pattern_name == name,
        Some((first, last)) => {
            let long = name.len() >= first.len() + last.len() && !name.starts_with('.');
            long && name.starts_with(first) && name.ends_with(last)
        }
    };
    same && pattern.parent() == path.parent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stands_for_a_part_of_a_name() {
        let is = |pattern: &str, path: &str| matches(Path::new(pattern), Path::new(path));
        assert!(is("/a/*.json", "/a/x.json") && is("/a/t-*.json", "/a/t-.json") && is("/a/x.json", "/a/x.json"));
        assert!(!is("/a/*.json", "/b/x.json") && !is("/a/ab*b.json", "/a/ab.json") && !is("/a/*.json", "/a/.x.json"));
        for (bad, good) in [("/a/*/x.json", "/a/x.json"), ("/a/x.txt", "/a/*.yml"), ("/a/*x*.json", "b.yaml")] {
            assert!(check(Path::new(bad)).is_err() && check(Path::new(good)).is_ok(), "{bad} {good}");
        }
    }
}
