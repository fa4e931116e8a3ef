//! When to look at the directory: when the kernel says that something changed there, and every few seconds anyway.
//!
//! The directory itself is watched, not its files, so that renames over a file and swapped links are seen; its parent
//! too, so that a directory that comes, goes or is replaced is seen. Changes are let settle for a moment, so that a
//! file is not read half written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hawser_mesh::{Event, Origin, Publisher};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::contents::Contents;
use crate::scan::Scanner;

/// Quiet time after a change before it is looked at.
const SETTLE: Duration = Duration::from_millis(100);
/// Longest wait for that quiet.
const SETTLE_AT_MOST: Duration = Duration::from_millis(400);
/// Time to a second look at what may be half written.
const LOOK_AGAIN: Duration = Duration::from_millis(400);
/// Time between looks that nothing asked for: changes behind links, changes that the kernel lost.
const SAFETY_NET: Duration = Duration::from_secs(5);
/// The same where the kernel can't be asked.
const WITHOUT_WATCH: Duration = Duration::from_millis(500);

/// Follows `directory` until discovery stops listening.
pub(crate) async fn run(directory: PathBuf, publisher: Publisher) {
    let (sender, mut changed) = mpsc::channel(1);
    let mut watch = Watch::new(directory.clone(), sender);
    let mut scanner = Scanner::new(directory.clone());
    let mut follower = Follower { directory, contents: Contents::default(), synced: false, stale: false };
    loop {
        // Before the look, so that nothing falls between.
        watch.renew();
        let looked = tokio::task::spawn_blocking(move || {
            let look = scanner.look();
            (scanner, look)
        });
        let Ok((back, look)) = looked.await else { return };
        scanner = back;
        let (events, look_again) = follower.take(look);
        if !publisher.publish(events).await {
            return;
        }
        let pause = match (look_again, watch.works) {
            (true, _) => LOOK_AGAIN,
            (false, true) => SAFETY_NET,
            (false, false) => WITHOUT_WATCH,
        };
        tokio::select! {
            () = publisher.closed() => return,
            _ = timeout(pause, settled(&mut changed)) => {}
        }
    }
}

/// What is known of the directory, besides its contents.
struct Follower {
    directory: PathBuf,
    contents: Contents,
    synced: bool,
    stale: bool,
}

impl Follower {
    /// Events of a look, and whether to look again soon.
    fn take(&mut self, look: std::io::Result<crate::contents::Look>) -> (Vec<Event>, bool) {
        match look {
            Ok(look) => {
                let changes = self.contents.look(look);
                let mut events = changes.events;
                if std::mem::take(&mut self.stale) {
                    tracing::info!(directory = %self.directory.display(), "configuration directory can be read again");
                    events.insert(0, Event::Fresh);
                }
                if !std::mem::replace(&mut self.synced, true) {
                    events.push(Event::Synced);
                }
                (events, changes.look_again)
            }
            Err(error) => {
                let name = self.directory.to_string_lossy();
                let message = match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        format!("{name}: this directory does not exist; make it, and it is read at once")
                    }
                    _ => format!("{name}: it can't be read: {error}"),
                };
                let mut events = Vec::new();
                if !std::mem::replace(&mut self.stale, true) {
                    tracing::warn!(directory = %name, %error, "configuration directory can't be read");
                    events.push(Event::Stale(message.clone()));
                }
                events.extend(self.contents.unavailable(Origin { name: name.into(), line: 0 }, message));
                (events, false)
            }
        }
    }
}

/// Waits for a change and the quiet after it.
async fn settled(changed: &mut mpsc::Receiver<()>) {
    if changed.recv().await.is_none() {
        return std::future::pending().await;
    }
    let latest = Instant::now() + SETTLE_AT_MOST;
    while Instant::now() < latest {
        let until = latest.min(Instant::now() + SETTLE);
        if timeout_at(until, changed.recv()).await.is_err() {
            return;
        }
    }
}

/// The kernel's watch on a directory and its parent.
struct Watch {
    directory: PathBuf,
    sender: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
    /// What is watched: the directory's identity, and the places.
    watched: Option<(Identity, Vec<(PathBuf, RecursiveMode)>)>,
    works: bool,
}

type Identity = Option<(u64, u64)>;

impl Watch {
    fn new(directory: PathBuf, sender: mpsc::Sender<()>) -> Self {
        Self { directory, sender, watcher: None, watched: None, works: false }
    }

    /// Watches what there is to watch now, if that differs from before.
    fn renew(&mut self) {
        let wanted = (identity(&self.directory), places(&self.directory));
        if self.works && self.watched.as_ref() == Some(&wanted) {
            return;
        }
        match self.start(&wanted.1) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.works = true;
            }
            Err(error) => {
                if self.works || self.watched.is_none() {
                    let directory = self.directory.display();
                    tracing::warn!(%directory, %error, "can't watch the configuration directory, looking often instead");
                }
                self.watcher = None;
                self.works = false;
            }
        }
        self.watched = Some(wanted);
    }

    fn start(&self, places: &[(PathBuf, RecursiveMode)]) -> notify::Result<RecommendedWatcher> {
        let sender = self.sender.clone();
        let mut ours = vec![self.directory.clone()];
        ours.extend(self.directory.canonicalize());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let matters = event.as_ref().map_or(true, |event| concerns(event, &ours));
            if matters {
                // A full channel holds the same word already.
                let _ = sender.try_send(());
            }
        })?;
        for (place, mode) in places {
            watcher.watch(place, *mode)?;
        }
        Ok(watcher)
    }
}

/// Whether an event can change what the directory holds. Reading it does not.
fn concerns(event: &notify::Event, directories: &[PathBuf]) -> bool {
    let change = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    let near = |path: &PathBuf| directories.iter().any(|ours| path.starts_with(ours) || ours.starts_with(path));
    change && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(near))
}

/// The directory with all that is in it, and the nearest directory above it that exists.
fn places(directory: &Path) -> Vec<(PathBuf, RecursiveMode)> {
    let mut places = Vec::new();
    if let Ok(real) = directory.canonicalize() {
        places.push((real, RecursiveMode::Recursive));
    }
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    if let Some(parent) = absolute.ancestors().skip(1).find(|above| above.is_dir()) {
        places.push((parent.to_owned(), RecursiveMode::NonRecursive));
    }
    places
}

fn identity(directory: &Path) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(directory).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
