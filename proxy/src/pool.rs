//! Connections to endpoints that are kept for the next request.
//!
//! In: connections whose request has ended (HTTP/1.1), or that carry many (HTTP/2). Out: one that fits: the same
//! endpoint, the same transport and identity, the same protocol. Bounded in number and idle time. An idle HTTP/1.1
//! connection has no task and no buffer: whether it is still good is seen when it is taken.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::Options;
use crate::http::h2;
use crate::tls::Offer;
use crate::upstream::{Fault, Kept, Target};

/// The most idle HTTP/1.1 connections of a key.
const MOST_IDLE: usize = 256;
/// The most HTTP/2 connections of a key.
pub const MOST_SHARED: usize = 8;
/// The same, of those whose streams become something else: they carry few each, and these last.
const MOST_SWITCHED: usize = 1024;

/// What a connection is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The endpoint's state, or the address of one that has none.
    pub to: To,
    /// The transport, with the identity that we show; 0 is plaintext.
    pub transport: u64,
    /// Whom it was said to be for, and which host was asked for; 0 where nothing is said.
    pub announced: u64,
    /// What is spoken.
    pub offer: Offer,
    /// Of HTTP/2: its streams become something else than requests. These have connections of their own.
    pub switches: bool,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// An endpoint, by the id of its state.
    Endpoint(u64),
    /// An address.
    Address(std::net::SocketAddr),
}

/// Hashes keys that no stranger chooses: ids, fingerprints, addresses of endpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        // The table looks at the highest bits and the lowest.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

/// A map by such keys.
pub type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// Connections of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<QuickMap<Key, Idle>>,
    shared: RefCell<QuickMap<Key, Rc<Shared>>>,
    /// Makes numbers of callers that nobody can aim at.
    callers: RandomState,
}

#[derive(Debug)]
struct Idle {
    connections: VecDeque<Box<Kept>>,
    timeout: Duration,
}

/// HTTP/2 connections of a key.
#[derive(Debug)]
pub struct Shared {
    /// They.
    pub connections: RefCell<Vec<h2::Connection>>,
    /// One is being made: others wait for it.
    pub connecting: Cell<bool>,
    /// How many attempts failed.
    pub failures: Cell<u64>,
    /// Why the last one did.
    pub fault: Cell<Fault>,
    /// The other end turned out to speak HTTP/1.1.
    pub speaks_http1: Cell<bool>,
    /// The other end turned out to be a hawser-proxy.
    pub hawser: Cell<bool>,
    /// Told when one was made, or was not.
    pub changed: Notify,
    most: usize,
    timeout: Duration,
}

impl Pool {
    /// Whom a connection to a target is said to be for, and which host it asks for: no other's request goes on it.
    pub fn announced(&self, target: &Target<'_>) -> u64 {
        let caller = target.cluster.spec.header.map(|_| target.caller);
        match (caller, target.host) {
            (None, None) => 0,
            said => self.callers.hash_one(said) | 1,
        }
    }

    /// An idle HTTP/1.1 connection, the last used first.
    pub fn take(&self, key: &Key) -> Option<Box<Kept>> {
        let mut all = self.idle.borrow_mut();
        let idle = all.get_mut(key)?;
        while let Some(mut kept) = idle.connections.pop_back() {
            if !kept.progress.is_ending() && !kept.connection.is_stale() {
                return Some(kept);
            }
        }
        None
    }

    /// Keeps an HTTP/1.1 connection for `timeout`.
    pub fn put(&self, kept: Box<Kept>, timeout: Duration) {
        kept.idle_since.set(crate::clock::now_ms());
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(kept.key).or_insert_with(|| Idle { connections: VecDeque::new(), timeout });
        if idle.connections.len() >= MOST_IDLE {
            idle.connections.pop_front();
        }
        idle.connections.push_back(kept);
    }

    /// The HTTP/2 connections of a key.
    pub fn shared(&self, key: &Key, timeout: Duration) -> Rc<Shared> {
        if let Some(shared) = self.shared.borrow().get(key) {
            return shared.clone();
        }
        let new = Rc::new(Shared {
            connections: RefCell::default(),
            connecting: Cell::new(false),
            failures: Cell::new(0),
            fault: Cell::new(Fault::Other),
            speaks_http1: Cell::new(false),
            hawser: Cell::new(false),
            changed: Notify::new(),
            most: if key.switches { MOST_SWITCHED } else { MOST_SHARED },
            timeout,
        });
        self.shared.borrow_mut().entry(*key).or_insert(new).clone()
    }

    /// Drops what is over, or idle for too long.
    pub fn sweep(&self, now: u64) {
        let fresh = |since: u64, timeout: Duration| u128::from(now.saturating_sub(since)) < timeout.as_millis();
        self.idle.borrow_mut().retain(|_, idle| {
            let timeout = idle.timeout;
            idle.connections.retain_mut(|c| {
                fresh(c.idle_since.get(), timeout) && !c.progress.is_ending() && !c.connection.is_stale()
            });
            !idle.connections.is_empty()
        });
        self.shared.borrow_mut().retain(|_, shared| {
            let timeout = shared.timeout;
            let used = |c: &h2::Connection| c.active() > 0 || fresh(c.last_used(), timeout);
            shared.connections.borrow_mut().retain(|c| {
                if !used(c) {
                    c.retire();
                }
                !c.is_closed()
            });
            shared.connecting.get() || !shared.connections.borrow().is_empty() || Rc::strong_count(shared) > 1
        });
    }

    /// Drops idle connections whose endpoint is lost.
    pub fn forget_lost(&self) {
        self.idle.borrow_mut().retain(|_, idle| {
            idle.connections.retain(|c| !c.progress.is_ending());
            !idle.connections.is_empty()
        });
    }
}

impl Shared {
    /// The connection with the fewest requests that has room for another one; those that carried as many requests as they
    /// may, or for as long, are taken out of use.
    pub fn pick(&self, options: &Options) -> Option<h2::Connection> {
        let Options { requests_per_connection: most, longest, streams, .. } = *options;
        let mut all = self.connections.borrow_mut();
        if most > 0 {
            all.iter().filter(|c| c.requests() >= most).for_each(h2::Connection::retire);
        }
        if let Some(longest) = longest {
            all.iter().filter(|c| c.age() >= longest).for_each(h2::Connection::retire);
        }
        all.retain(|c| !c.is_closed());
        let has_room = |c: &&h2::Connection| c.has_room() && (streams == 0 || c.active() < streams as usize);
        all.iter().filter(has_room).min_by_key(|c| c.active()).cloned()
    }

    /// Whether another connection may be made.
    pub fn has_room(&self) -> bool {
        self.connections.borrow().len() < self.most
    }
}

/// While one connection is being made; others are told when it is dropped.
#[derive(Debug)]
pub struct Connecting(Rc<Shared>);

impl Connecting {
    /// Begins.
    pub fn begin(shared: &Rc<Shared>) -> Self {
        shared.connecting.set(true);
        Self(shared.clone())
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.changed.notify_waiters();
    }
}
