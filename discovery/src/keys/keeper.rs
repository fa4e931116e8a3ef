//! The task that fetches keys when they are first named, and again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hawser_daemon::drain;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Fetched, Origin, fetch};
use crate::registry::Snapshots;
use crate::store::{KeysRecord, Store, StoreError};

/// Keys are fetched again after so long.
pub const REFRESH: Duration = Duration::from_secs(20 * 60);
/// What fails is tried again after so long, at first.
const RETRY: Duration = Duration::from_secs(1);
/// At last.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// An answer may take so long, unless the policy says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most places that are asked.
const MOST: usize = 256;
/// The most that are asked at once.
const AT_ONCE: usize = 8;

/// Keeps keys.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    refresh: Duration,
    told: watch::Sender<Arc<Fetched>>,
    places: BTreeMap<Origin, Place>,
    fetched: Fetched,
}

#[derive(Debug)]
struct Place {
    timeout: Duration,
    next: Instant,
    failures: u32,
    asked: bool,
}

impl Keeper {
    /// With what was kept before.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn load(store: Store, refresh: Duration) -> Result<(Self, watch::Receiver<Arc<Fetched>>), StoreError> {
        let mut fetched = Fetched::default();
        for (_, record) in store.list::<KeysRecord>()? {
            fetched.keys.insert(record.origin(), record.keys.as_str().into());
        }
        let (told, keys) = watch::channel(Arc::new(fetched.clone()));
        Ok((Self { store, refresh, told, places: BTreeMap::new(), fetched }, keys))
    }

    /// Runs until the drain.
    pub async fn run(mut self, mut snapshots: Snapshots, drain: drain::Watch) {
        let mut asking: JoinSet<(Origin, Result<Arc<str>, String>)> = JoinSet::new();
        self.wanted(&mut snapshots).await;
        loop {
            let now = Instant::now();
            for (origin, place) in &mut self.places {
                if !place.asked && place.next <= now && asking.len() < AT_ONCE {
                    place.asked = true;
                    let (origin, timeout) = (origin.clone(), place.timeout);
                    asking.spawn(async move {
                        let got = fetch::keys(&origin, timeout).await;
                        (origin, got)
                    });
                }
            }
            let full = asking.len() >= AT_ONCE;
            let next = self.places.values().filter(|place| !place.asked && !full).map(|place| place.next).min();
            let wake = next.unwrap_or(now + self.refresh);
            tokio::select! {
                () = drain.draining() => return,
                changed = snapshots.changed() => match changed {
                    Ok(()) => self.wanted(&mut snapshots).await,
                    Err(_) => return,
                },
                Some(done) = asking.join_next() => if let Ok((origin, got)) = done {
                    self.got(origin, got).await;
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// What policies name now. What none names any more is forgotten, once everything was said.
    async fn wanted(&mut self, snapshots: &mut Snapshots) {
        let snapshot = snapshots.borrow_and_update().clone();
        let named = snapshot.rules.key_origins();
        for (origin, timeout) in named.iter().take(MOST) {
            let fresh = || Place { timeout: TIMEOUT, next: Instant::now(), failures: 0, asked: false };
            self.places.entry(origin.clone()).or_insert_with(fresh).timeout = timeout.unwrap_or(TIMEOUT);
        }
        if !snapshot.ready() {
            return;
        }
        self.places.retain(|origin, _| named.contains_key(origin));
        let gone: Vec<Origin> = self.fetched.keys.keys().filter(|o| !named.contains_key(*o)).cloned().collect();
        for origin in gone {
            self.fetched.keys.remove(&origin);
            let key = KeysRecord::key(&origin);
            let removed = self.store.write(move |txn| txn.remove::<KeysRecord>(&key)).await;
            if let Err(error) = removed.map_err(|e: StoreError| e) {
                tracing::warn!(%origin, %error, "keys that nobody needs stay in the store");
            }
        }
        self.fetched.problems.retain(|origin, _| named.contains_key(origin));
        self.tell();
    }

    async fn got(&mut self, origin: Origin, got: Result<Arc<str>, String>) {
        let Some(place) = self.places.get_mut(&origin) else { return };
        place.asked = false;
        match got {
            Ok(keys) => {
                (place.failures, place.next) = (0, Instant::now() + self.refresh);
                if self.fetched.problems.remove(&origin).is_some() {
                    tracing::info!(%origin, "keys of an issuer are fetched again");
                }
                if self.fetched.keys.get(&origin) != Some(&keys) {
                    let record = KeysRecord::new(&origin, &keys);
                    let key = KeysRecord::key(&origin);
                    let kept = self.store.write(move |txn| txn.put(&key, &record)).await;
                    if let Err(error) = kept.map_err(|e: StoreError| e) {
                        tracing::warn!(%origin, %error, "keys of an issuer are not kept over a restart");
                    }
                    self.fetched.keys.insert(origin, keys);
                }
            }
            Err(why) => {
                let wait = RETRY.saturating_mul(1 << place.failures.min(6)).min(LONGEST_RETRY);
                place.failures = place.failures.saturating_add(1);
                place.next = Instant::now() + wait;
                let known = self.fetched.keys.contains_key(&origin);
                if self.fetched.problems.get(&origin) != Some(&why) {
                    tracing::warn!(%origin, %why, last_good = known, "keys of an issuer can't be fetched");
                }
                self.fetched.problems.insert(origin, why);
            }
        }
        self.tell();
    }

    fn tell(&self) {
        self.told.send_if_modified(|told| {
            let new = **told != self.fetched;
            if new {
                *told = Arc::new(self.fetched.clone());
            }
            new
        });
    }
}
