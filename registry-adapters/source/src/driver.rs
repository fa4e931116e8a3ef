//! Joins a source's ledger to discovery: publishes what changed, keeps the state on disk, shows it to operators.
//!
//! In: what the adapter heard. Out: events, a status, a file. An adapter owns one driver in the task that hears its
//! source, and polls [`Driver::idle`] beside everything else that it waits for. Invariant: an event of the ledger is
//! published once and in order, also where a caller drops a future of the driver half way.

mod keeper;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hawser_mesh::{Event, Object, Publisher};
use tokio::sync::{mpsc, watch};

use self::keeper::Keeper;
use crate::context::Word;
use crate::ledger::Ledger;
use crate::{Context, Fingerprint, Interest, Settings, Status, Trouble, Unseen, stored};

/// Nobody listens any more: the adapter returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// One part of a complete answer.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Which.
    pub part: Arc<str>,
    /// Of the answer it was taken from, if that is cheaper to compare than its objects.
    pub fingerprint: Option<Fingerprint>,
    /// Everything in it.
    pub objects: Vec<Object>,
}

/// What an adapter speaks through.
#[derive(Debug)]
pub struct Driver {
    publisher: Publisher,
    ledger: Ledger,
    /// Events that are not published yet.
    outbox: Vec<Event>,
    keeper: Keeper,
    interest: Interest,
    status: watch::Sender<Status>,
    words: mpsc::Receiver<Word>,
}

impl Driver {
    /// Starts with the stored state, if there is one. `fingerprint` is of everything in the source's settings that
    /// decides what it says, the same in every run ([`settings::digest`](crate::settings::digest)).
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn start(
        publisher: Publisher,
        context: Context,
        settings: &Settings,
        fingerprint: u64,
    ) -> Result<Self, Closed> {
        let Context { interest, file, status, words } = context;
        let name = publisher.registry().to_string();
        let mut ledger = Ledger::new(name.clone(), settings.freeze);
        let mut outbox = Vec::new();
        if let Some(stored) = load(file.clone(), name.clone()).await {
            let age = SystemTime::now().duration_since(stored.written).unwrap_or_default();
            let parts = stored.parts.len();
            tracing::info!(registry = name, parts, ?age, "stored state of the registry counts until it is heard");
            outbox = ledger.load(stored.parts, age, stored.settings != fingerprint, Instant::now());
            status.send_modify(|status| status.loaded = Some(stored.written));
        }
        let keeper = Keeper::new(file, name, fingerprint);
        let mut driver = Self { publisher, ledger, outbox, keeper, interest, status, words };
        driver.flush().await?;
        Ok(driver)
    }

    /// Hosts that some proxy subscribes to.
    pub fn interest(&mut self) -> &mut Interest {
        &mut self.interest
    }

    /// Which registry speaks.
    pub fn registry(&self) -> &hawser_mesh::RegistryId {
        self.publisher.registry()
    }

    /// What was said, for questions.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether an answer about a part is the one that was taken in last, so that it need not be parsed. It then counts
    /// as heard.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn unchanged(&mut self, part: &str, fingerprint: Fingerprint) -> Result<bool, Closed> {
        let Some(events) = self.ledger.unchanged(part, fingerprint, Instant::now()) else { return Ok(false) };
        self.heard(events).await?;
        Ok(true)
    }

    /// Takes in everything the source says about a part; see [`Ledger::observe`].
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn observe(
        &mut self,
        part: &str,
        fingerprint: Option<Fingerprint>,
        build: impl FnOnce() -> Vec<Object>,
    ) -> Result<(), Closed> {
        let events = self.ledger.observe(part, fingerprint, build, Instant::now());
        self.heard(events).await
    }

    /// Takes in what the adapter itself found out of a part; see [`Ledger::revise`].
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn revise(&mut self, part: &str, objects: Vec<Object>) -> Result<(), Closed> {
        let events = self.ledger.revise(part, None, objects, Instant::now());
        self.say(events).await
    }

    /// Takes in the complete list of parts; see [`Ledger::parts`].
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn parts<'a>(&mut self, list: impl IntoIterator<Item = &'a str>) -> Result<(), Closed> {
        let events = self.ledger.parts(list, Instant::now());
        self.heard(events).await
    }

    /// Takes in a complete answer of all parts: they take effect together.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn all(&mut self, parts: Vec<Heard>) -> Result<(), Closed> {
        let now = Instant::now();
        let names: Vec<Arc<str>> = parts.iter().map(|heard| heard.part.clone()).collect();
        let mut events = Vec::new();
        for Heard { part, fingerprint, objects } in parts {
            events.extend(self.ledger.observe(&part, fingerprint, || objects, now));
        }
        events.extend(self.ledger.parts(names.iter().map(|name| &**name), now));
        self.heard(events).await
    }

    /// Takes in changes that take effect together: parts as they are now, and parts that the source itself says are
    /// gone; see [`Ledger::observe`] and [`Ledger::gone`].
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn change(&mut self, parts: Vec<Heard>, gone: &[Arc<str>]) -> Result<(), Closed> {
        let now = Instant::now();
        let mut events = Vec::new();
        for Heard { part, fingerprint, objects } in parts {
            events.extend(self.ledger.observe(&part, fingerprint, || objects, now));
        }
        for part in gone {
            events.extend(self.ledger.gone(part, now));
        }
        self.heard(events).await
    }

    /// The source is no more, as an operator took it out: takes back all that it said, and its stored state.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn end(mut self) -> Result<(), Closed> {
        self.outbox.push(Event::Ended);
        let said = self.flush().await;
        self.keeper.forget().await;
        said
    }

    /// Counts a part as heard that the source can't tell of now; see [`Ledger::pass`].
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn pass(&mut self, part: &str) -> Result<(), Closed> {
        let events = self.ledger.pass(part, Instant::now());
        self.say(events).await
    }

    /// The source answers, though nothing new.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn spoke(&mut self) -> Result<(), Closed> {
        let events = self.ledger.spoke(Instant::now());
        self.heard(events).await
    }

    /// The source is silent, and why: a sentence with the cure. What it said stays.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn failed(&mut self, why: impl Into<String>) -> Result<(), Closed> {
        let events = self.ledger.failed(why, Instant::now());
        self.say(events).await
    }

    /// What the source says is not to be believed, and why; see [`Ledger::doubt`].
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn doubt(&mut self, why: impl Into<String>) -> Result<(), Closed> {
        let events = self.ledger.doubt(why, Instant::now());
        self.say(events).await
    }

    /// It is again.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn trust(&mut self) -> Result<(), Closed> {
        let events = self.ledger.trust(Instant::now());
        self.say(events).await
    }

    /// Shows operators what of the source is not seen.
    pub fn unseen(&self, unseen: Unseen) {
        self.status.send_if_modified(|status| std::mem::replace(&mut status.unseen, unseen.clone()) != unseen);
    }

    /// Something in the source can't be used, or can again: an event for the listing of the configuration.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn report(&mut self, event: Event) -> Result<(), Closed> {
        self.say(vec![event]).await
    }

    /// Serves operators, ends freezes, writes the state, until nobody listens any more. To be polled whenever the
    /// adapter waits; may be dropped at any moment: `select! { closed = driver.idle() => return, answer = … }`.
    pub async fn idle(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.flush().await {
                return closed;
            }
            let wake = self.ledger.wake_at().into_iter().chain(self.keeper.wake_at()).min();
            let waits = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.publisher.closed() => return Closed,
                Some(Word::Accept) = self.words.recv() => {
                    if let Some(events) = self.ledger.accept(Instant::now()) {
                        tracing::info!(registry = %self.publisher.registry(), "a loss was accepted by an operator");
                        self.outbox.extend(events);
                    }
                }
                () = waits => {}
            }
            let events = self.ledger.tick(Instant::now());
            self.outbox.extend(events);
        }
    }

    /// Waits while the rest of the driver goes on: for adapters that have nothing else to wait for.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub async fn wait(&mut self, until: impl Future<Output = ()>) -> Result<(), Closed> {
        tokio::select! {
            closed = self.idle() => Err(closed),
            () = until => Ok(()),
        }
    }

    async fn heard(&mut self, events: Vec<Event>) -> Result<(), Closed> {
        self.status.send_if_modified(|status| {
            status.last_contact = Some(SystemTime::now());
            false
        });
        self.say(events).await
    }

    async fn say(&mut self, events: Vec<Event>) -> Result<(), Closed> {
        self.outbox.extend(events);
        self.flush().await
    }

    /// Publishes what is in the outbox, and shows how things are. What is not sent when this is dropped is sent by the
    /// next call.
    async fn flush(&mut self) -> Result<(), Closed> {
        self.show();
        if !self.outbox.is_empty() {
            if self.outbox.iter().any(|event| matches!(event, Event::Upsert(_) | Event::Delete(_) | Event::Synced)) {
                self.keeper.changed(Instant::now());
            }
            if !self.publisher.publish(self.outbox.clone()).await {
                return Err(Closed);
            }
            self.outbox.clear();
        }
        self.keeper.keep(&self.ledger, Instant::now());
        Ok(())
    }

    fn show(&mut self) {
        let now = (Instant::now(), SystemTime::now());
        let wall = |at: Instant| now.1.checked_sub(now.0.saturating_duration_since(at)).unwrap_or(now.1);
        let trouble = |(since, why): (Instant, String)| Trouble { since: wall(since), why };
        // To count costs more than most answers, which change nothing.
        let counts = (!self.outbox.is_empty()).then(|| self.ledger.counts());
        let (stale, frozen) = (self.ledger.stale().map(trouble), self.ledger.frozen().map(trouble));
        let registry = self.publisher.registry();
        self.status.send_if_modified(|status| {
            match (&status.frozen, &frozen) {
                (None, Some(Trouble { why, .. })) => tracing::warn!(%registry, why, "registry is frozen"),
                (Some(_), None) => tracing::info!(%registry, "registry is no longer frozen"),
                _ => {}
            }
            let old = status.clone();
            status.synced = self.ledger.is_synced();
            (status.stale, status.frozen) = (keep(&old.stale, stale), keep(&old.frozen, frozen));
            (status.parts, status.objects) = counts.unwrap_or((status.parts, status.objects));
            *status != old
        });
    }
}

/// The trouble as it is now, with the time at which it was first seen: two clocks make no change of it.
fn keep(old: &Option<Trouble>, new: Option<Trouble>) -> Option<Trouble> {
    new.map(|new| match old {
        Some(old) if old.since.duration_since(new.since).unwrap_or_else(|e| e.duration()).as_secs() < 2 => {
            Trouble { since: old.since, why: new.why }
        }
        _ => new,
    })
}

async fn load(file: Option<std::path::PathBuf>, registry: String) -> Option<stored::Stored> {
    let file = file?;
    let read = tokio::task::spawn_blocking(move || {
        let read = stored::read(&file, &registry);
        if let Err(error) = &read {
            tracing::warn!(registry, file = %file.display(), %error, "stored state is not used");
        }
        read.ok().flatten()
    });
    read.await.ok().flatten()
}

#[cfg(test)]
mod tests;
