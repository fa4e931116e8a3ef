//! Watches: what is there, then what happens, line by line.
//!
//! In: a kind, a choice, a version. Out: a stream of events. Invariant: every change is told once and in order, or the
//! stream says that it can't (410), or ends; a reader that is too slow for what is remembered meets the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::ask::{Asked, Want};
use crate::faults::{Moment, Watching, What, broken};
use crate::read::{Chosen, bad_version, forbidden_option, reached};
use crate::refusal::Refusal;
use crate::reply::{Part, Reply, form};
use crate::server::{Found, Server};
use crate::store::{Change, Entry, Form, TooOld};

/// Lines that wait for a slow reader before it is not read any further.
const LINES: usize = 64;
/// Between the last line and the break of a connection: a break overtakes what was not sent yet.
pub(crate) const FLUSH: Duration = Duration::from_millis(50);
/// Without a `timeoutSeconds`, and at most.
const LONGEST: Duration = Duration::from_secs(3600);

/// A watch that runs.
struct Watch {
    server: Arc<Server>,
    found: Found,
    chosen: Chosen,
    form: Form,
    want: Want,
    /// All changes up to this version were told.
    told: u64,
    life: Option<u64>,
    faults: Watching,
    events: usize,
    bookmarks: bool,
    end: Instant,
    out: mpsc::Sender<Part>,
}

/// Why a watch stops.
struct Over;

/// How a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With all that is there.
    State,
    /// With all that is there, an end mark if it may be sent, at least at a version.
    Streamed { at_least: u64 },
    /// With what happened after a version.
    After(u64),
}

/// Begins a watch.
pub(crate) fn answer(server: &Arc<Server>, found: &Found, asked: &Asked, moment: &Moment) -> Result<Reply, Refusal> {
    let want = asked.want()?;
    let chosen = Chosen::read(found, asked)?;
    let start = start(asked)?;
    let seconds = asked.query.given("timeoutSeconds").and_then(|s| s.parse().ok()).filter(|s| *s > 0);
    let length = seconds.map_or(LONGEST, Duration::from_secs).min(LONGEST);
    let (out, parts) = mpsc::channel(LINES);
    let watch = Watch {
        server: Arc::clone(server),
        found: found.clone(),
        chosen,
        form: form(found, want),
        want,
        told: 0,
        life: server.store().life(&found.kind.place),
        faults: server.faults.watching(moment),
        events: 0,
        bookmarks: asked.query.flag("allowWatchBookmarks") && asked.query.get("allowWatchBookmarks").is_some(),
        end: Instant::now() + length,
        out,
    };
    tokio::spawn(watch.run(start));
    Ok(Reply::stream(parts))
}

fn start(asked: &Asked) -> Result<Start, Refusal> {
    let query = &asked.query;
    let version = query.given("resourceVersion");
    if let Some(why) = version.and_then(bad_version) {
        return Err(Refusal::internal(why));
    }
    let version: u64 = version.and_then(|v| v.parse().ok()).unwrap_or(0);
    let matching = query.given("resourceVersionMatch");
    match query.given("sendInitialEvents") {
        Some("true" | "1") if matching != Some("NotOlderThan") => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            Err(forbidden_option("resourceVersionMatch", why))
        }
        Some("true" | "1") => Ok(Start::Streamed { at_least: version }),
        None if matching.is_some() => {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            Err(forbidden_option("resourceVersionMatch", why))
        }
        _ if version == 0 => Ok(Start::State),
        _ => Ok(Start::After(version)),
    }
}

impl Watch {
    async fn run(mut self, start: Start) {
        // The channel closes when this returns, and with it the body ends in order.
        let _ = self.tell_all(start).await;
    }

    async fn tell_all(&mut self, start: Start) -> Result<(), Over> {
        let mut changes = self.server.store().subscribe();
        let mut run = self.server.run.subscribe();
        let mut frozen = self.server.frozen.subscribe();
        if self.faults.expired {
            let status = Refusal::expired("The resourceVersion for the provided watch is too old.").status();
            return self.error(&status).await;
        }
        self.begin(start).await?;
        let pause = self.server.timing.bookmarks;
        let mut bookmark = Instant::now() + pause;
        let last = self
            .end
            .checked_sub(Duration::from_millis(1500))
            .filter(|at| *at > Instant::now() + Duration::from_secs(3));
        let mut farewell = last;
        loop {
            thawed(&mut frozen).await;
            changes.borrow_and_update();
            self.go_wrong().await?;
            let ends = self.server.store().life(&self.found.kind.place) != self.life;
            self.catch_up().await?;
            if ends {
                tokio::time::sleep(self.server.timing.definitions).await;
                return self.catch_up().await;
            }
            let next = farewell.map_or(bookmark, |at| at.min(bookmark));
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| Over)?,
                _ = run.changed() => return self.cut().await,
                _ = frozen.changed() => {}
                () = self.out.closed() => return Err(Over),
                () = tokio::time::sleep_until(self.end) => {
                    thawed(&mut frozen).await;
                    return Ok(());
                }
                () = tokio::time::sleep_until(next) => {
                    thawed(&mut frozen).await;
                    self.mark(false).await?;
                    if farewell.is_some_and(|at| at <= next) {
                        farewell = None;
                    }
                    bookmark = Instant::now() + pause;
                }
            }
        }
    }

    async fn begin(&mut self, start: Start) -> Result<(), Over> {
        let place = self.found.kind.place.clone();
        let namespace = self.found.namespace.clone();
        self.go_wrong().await?;
        match start {
            Start::After(version) => {
                self.told = version;
                return Ok(());
            }
            Start::Streamed { at_least } => {
                if let Err(refusal) = reached(&self.server, at_least).await {
                    return self.error(&refusal.status()).await;
                }
            }
            Start::State => {}
        }
        let mut entries = {
            let store = self.server.store();
            self.told = store.version();
            store.list(&place, namespace.as_deref())
        };
        for lost in &self.faults.lost {
            lost.lose(&mut entries);
        }
        for entry in entries {
            if self.chosen.all() || self.chosen.fits(&entry) {
                self.event("ADDED", &entry).await?;
            }
        }
        if matches!(start, Start::Streamed { .. }) {
            self.mark(true).await?;
        }
        Ok(())
    }

    /// Tells what happened since.
    async fn catch_up(&mut self) -> Result<(), Over> {
        let (changes, now) = {
            let store = self.server.store();
            (store.changes(&self.found.kind.place, self.told), store.version())
        };
        let changes = match changes {
            Ok(changes) => changes,
            Err(TooOld(oldest)) => {
                let status = Refusal::expired(format!("too old resource version: {} ({oldest})", self.told)).status();
                return self.error(&status).await;
            }
        };
        for change in changes {
            self.tell(&change).await?;
        }
        self.told = self.told.max(now);
        Ok(())
    }

    async fn tell(&mut self, change: &Change) -> Result<(), Over> {
        if self.found.namespace.as_ref().is_some_and(|n| *n != change.now.namespace) {
            return Ok(());
        }
        let all = self.chosen.all();
        let was = change.before.as_ref().is_some_and(|before| all || self.chosen.fits(before));
        let is = !change.deleted && (all || self.chosen.fits(&change.now));
        match (was, is) {
            (false, false) => Ok(()),
            (false, true) => self.event("ADDED", &change.now).await,
            (true, true) => self.event("MODIFIED", &change.now).await,
            (true, false) if change.deleted => self.event("DELETED", &change.now).await,
            // It left what was chosen: told as it was, at the version at which it left.
            (true, false) => {
                let left = change.before.as_ref().map(|before| before.at(change.version));
                match left {
                    Some(left) => self.event("DELETED", &left).await,
                    None => Ok(()),
                }
            }
        }
    }

    async fn event(&mut self, what: &str, entry: &Entry) -> Result<(), Over> {
        self.go_wrong().await?;
        let mut line = format!("{{\"type\":\"{what}\",\"object\":").into_bytes();
        entry.write(&self.form, &mut line);
        line.extend_from_slice(b"}\n");
        if let Some(pause) = self.faults.slow {
            tokio::time::sleep(pause).await;
        }
        self.events += 1;
        if matches!(self.faults.then, Some((after, What::HalfLine { .. })) if self.events > after) {
            line.truncate(line.len() / 2);
            self.send(line).await?;
            return self.cut().await;
        }
        self.send(line).await?;
        self.go_wrong_at_end().await
    }

    /// Whether so many events were sent that it is time for what was asked for.
    async fn go_wrong(&mut self) -> Result<(), Over> {
        let Some((after, what)) = self.faults.then.clone().filter(|(after, _)| self.events >= *after) else {
            return Ok(());
        };
        match what {
            What::Silent { .. } => {
                self.out.closed().await;
                Err(Over)
            }
            What::HalfLine { .. } => {
                self.events = after;
                Ok(())
            }
            _ => self.go_wrong_at_end().await,
        }
    }

    async fn go_wrong_at_end(&mut self) -> Result<(), Over> {
        let Some((_, what)) = self.faults.then.clone().filter(|(after, _)| self.events >= *after) else {
            return Ok(());
        };
        match what {
            What::Cut { .. } => self.cut().await,
            What::End { .. } => Err(Over),
            What::Garbage { .. } => {
                self.send(b"this is no JSON\n".to_vec()).await?;
                self.cut().await
            }
            What::ErrorEvent { code, .. } => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "an error on demand", "reason": if code == 410 { "Expired" } else { "InternalError" },
                    "code": code});
                self.error(&status).await
            }
            _ => Ok(()),
        }
    }

    /// A bookmark; the one that ends the initial events carries the sign of it.
    async fn mark(&mut self, ends_initial: bool) -> Result<(), Over> {
        if !self.bookmarks || self.faults.no_bookmarks {
            return Ok(());
        }
        self.go_wrong().await?;
        let mut metadata = json!({"resourceVersion": self.told.to_string()});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = match self.want {
            Want::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}),
            Want::Whole => {
                let mut object = self.found.kind.empty();
                object["kind"] = self.found.kind.name.as_str().into();
                object["apiVersion"] = self.found.api_version().into();
                object
            }
        };
        object["metadata"] = metadata;
        self.send(line("BOOKMARK", &object)).await
    }

    /// An ERROR event; it is the last.
    async fn error(&mut self, status: &Value) -> Result<(), Over> {
        self.send(line("ERROR", status)).await?;
        Err(Over)
    }

    /// The connection breaks, a moment after what was said last has gone out.
    async fn cut(&mut self) -> Result<(), Over> {
        tokio::time::sleep(FLUSH).await;
        let _ = self.out.send(broken()).await;
        Err(Over)
    }

    async fn send(&mut self, line: Vec<u8>) -> Result<(), Over> {
        self.out.send(Ok(Frame::data(Bytes::from(line)))).await.map_err(|_| Over)
    }
}

fn line(what: &str, object: &Value) -> Vec<u8> {
    let mut line = json!({"type": what, "object": object}).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Waits while the server is frozen.
pub(crate) async fn thawed(frozen: &mut watch::Receiver<bool>) {
    // The sender lives as long as the server.
    let _ = frozen.wait_for(|frozen| !frozen).await;
}
