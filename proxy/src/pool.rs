//! Connections to endpoints that are kept for the next request.
//!
//! In: connections whose request has ended (HTTP/1.1), or that carry many (HTTP/2). Out: one that fits: the same
//! endpoint, the same transport and identity, the same protocol. Bounded in number and idle time.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::http::codec::{Http1, Http2};
use crate::tls::Offer;

/// The most idle HTTP/1.1 connections of a key.
const MOST_IDLE: usize = 256;
/// The most HTTP/2 connections of a key.
pub const MOST_SHARED: usize = 8;

/// What a connection is good for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The endpoint's state, or the address and cluster of one that has none.
    pub to: To,
    /// The transport, with the identity that we show; 0 is plaintext.
    pub transport: u64,
    /// What is spoken.
    pub offer: Offer,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// An endpoint, by the id of its state.
    Endpoint(u64),
    /// An address.
    Address(std::net::SocketAddr),
}

/// Connections of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<HashMap<Key, Idle>>,
    shared: RefCell<HashMap<Key, Rc<Shared>>>,
}

#[derive(Debug)]
struct Idle {
    connections: VecDeque<Http1>,
    timeout: Duration,
}

/// HTTP/2 connections of a key.
#[derive(Debug)]
pub struct Shared {
    /// They.
    pub connections: RefCell<Vec<Rc<Http2>>>,
    /// One is being made: others wait for it.
    pub connecting: Cell<bool>,
    /// How many attempts failed.
    pub failures: Cell<u64>,
    /// The other end turned out to speak HTTP/1.1.
    pub speaks_http1: Cell<bool>,
    /// Told when one was made, or was not.
    pub changed: Notify,
    timeout: Duration,
}

impl Pool {
    /// An idle HTTP/1.1 connection, the last used first.
    pub fn take(&self, key: &Key) -> Option<Http1> {
        let mut all = self.idle.borrow_mut();
        let idle = all.get_mut(key)?;
        while let Some(connection) = idle.connections.pop_back() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps an HTTP/1.1 connection for `timeout`.
    pub fn put(&self, key: Key, connection: Http1, timeout: Duration) {
        if connection.is_closed() {
            return;
        }
        connection.idle_since.set(crate::clock::now_ms());
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(key).or_insert_with(|| Idle { connections: VecDeque::new(), timeout });
        if idle.connections.len() >= MOST_IDLE {
            idle.connections.pop_front();
        }
        idle.connections.push_back(connection);
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
            speaks_http1: Cell::new(false),
            changed: Notify::new(),
            timeout,
        });
        self.shared.borrow_mut().entry(key.clone()).or_insert(new).clone()
    }

    /// Drops what is over, or idle for too long.
    pub fn sweep(&self, now: u64) {
        let fresh = |since: u64, timeout: Duration| u128::from(now.saturating_sub(since)) < timeout.as_millis();
        self.idle.borrow_mut().retain(|_, idle| {
            let timeout = idle.timeout;
            idle.connections.retain(|c| !c.is_closed() && fresh(c.idle_since.get(), timeout));
            !idle.connections.is_empty()
        });
        self.shared.borrow_mut().retain(|_, shared| {
            let timeout = shared.timeout;
            let used = |c: &Rc<Http2>| c.active.get() > 0 || fresh(c.last_used.get(), timeout);
            shared.connections.borrow_mut().retain(|c| !c.is_closed() && used(c));
            shared.connecting.get() || !shared.connections.borrow().is_empty() || Rc::strong_count(shared) > 1
        });
    }
}

impl Shared {
    /// The connection with the fewest requests that has room for another one.
    pub fn pick(&self) -> Option<Rc<Http2>> {
        let mut all = self.connections.borrow_mut();
        all.retain(|c| !c.is_closed());
        all.iter().filter(|c| c.has_room()).min_by_key(|c| c.active.get()).cloned()
    }

    /// Whether another connection may be made.
    pub fn has_room(&self) -> bool {
        self.connections.borrow().len() < MOST_SHARED
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
