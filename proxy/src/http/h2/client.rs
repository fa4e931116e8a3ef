//! HTTP/2 as a client.
//!
//! In: a byte stream. Out: a connection that carries many requests at a time, and the future that drives it. Nothing waits for
//! the server's SETTINGS: until they come it is assumed to take a hundred streams.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::driver::{self, Role};
use super::frame::Code;
use super::limits::Limits;
use super::shared::{Owned, Shared, channel};
use super::state::{Side, State};
use crate::http::channel::{Broken, Client};
use crate::http::message::{Length, RequestHead, ResponseHead};
use crate::stream::Stream;

/// After so many milliseconds without a request, a PING shows whether the other end still lives.
const TRUSTED: u64 = 5_000;
/// How long it may take to answer.
const PONG: Duration = Duration::from_secs(1);

/// Starts on a byte stream; `secure` is what `:scheme` says. The future has to be run for anything to happen; it ends when the
/// connection does, when all that shares it has been dropped and its streams have ended, or by being dropped itself.
pub fn connect(
    stream: Stream,
    limits: Limits,
    secure: bool,
) -> (Connection, impl Future<Output = io::Result<()>> + use<>) {
    let shared = Shared::new(State::new(Side::Client { secure }, limits, crate::clock::now_ms));
    let inner = Inner {
        shared: shared.clone(),
        last_used: Cell::new(crate::clock::now_ms()),
        requests: Cell::new(0),
        pinging: Cell::new(false),
        since: Instant::now(),
    };
    (Connection { inner: Rc::new(inner) }, driver::run(stream, shared, Asking))
}

struct Asking;

impl Role for Asking {
    const ASKS: bool = false;

    fn before(&mut self, shared: &Shared, _: &Context<'_>) -> io::Result<()> {
        shared.drive(|state| {
            if state.is_closed() && state.active() == 0 {
                state.leave();
            }
        });
        Ok(())
    }

    fn after(&mut self, _: &Rc<Shared>) {}
}

/// A connection to a server. Clones are the same connection; when the last one is dropped it ends after its streams.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Rc<Shared>,
    last_used: Cell<u64>,
    requests: Cell<u32>,
    pinging: Cell<bool>,
    since: Instant,
}

impl Connection {
    /// Whether it takes no request any more.
    pub fn is_closed(&self) -> bool {
        self.inner.shared.drive(|state| state.is_closed())
    }

    /// Takes it out of use: requests in flight end, none is added.
    pub fn retire(&self) {
        self.inner.shared.with(State::retire);
    }

    /// Whether another request fits.
    pub fn has_room(&self) -> bool {
        self.inner.shared.drive(|state| state.has_room())
    }

    /// Requests in flight.
    pub fn active(&self) -> usize {
        self.inner.shared.drive(|state| state.active())
    }

    /// Requests that were sent on it, or were to be.
    pub fn requests(&self) -> u32 {
        self.inner.requests.get()
    }

    /// How long it has been there.
    pub fn age(&self) -> Duration {
        self.inner.since.elapsed()
    }

    /// Last use, in milliseconds of [`crate::clock`].
    pub fn last_used(&self) -> u64 {
        self.inner.last_used.get()
    }

    /// Whether the server takes extended CONNECT (RFC 8441), as far as it is known.
    pub fn takes_extended_connect(&self) -> bool {
        self.inner.shared.drive(|state| state.takes_extended_connect())
    }

    /// Waits for the server's SETTINGS. Only who made the connection may, before others have it.
    pub async fn settled(&self) {
        poll_fn(|cx| if self.inner.shared.drive(|s| s.is_settled(cx)) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// A place for a request.
    ///
    /// # Errors
    /// `Gone` if the connection takes none any more, `Refused` if it has no room.
    pub fn open(&self) -> Result<ClientStream, Broken> {
        let key = self.inner.shared.drive(State::open)?;
        self.inner.last_used.set(crate::clock::now_ms());
        self.inner.requests.set(self.inner.requests.get().saturating_add(1));
        Ok(ClientStream { stream: Owned::new(self.inner.shared.clone(), key), connection: self.inner.clone() })
    }

    /// Whether the other end lives at `now`; asked by PING after a silence. One that does not answer is retired.
    pub async fn is_alive(&self, now: u64) -> bool {
        let Inner { shared, last_used, pinging, .. } = &*self.inner;
        if self.active() > 0 || now.saturating_sub(last_used.get()) < TRUSTED {
            return !self.is_closed();
        }
        // Whoever is second while a PING is under way relies on the first.
        if self.is_closed() || pinging.replace(true) {
            return !self.is_closed();
        }
        let _end = Pinging(pinging);
        let ping = shared.with(State::ping);
        let pong = poll_fn(|cx| {
            let over = shared.drive(|state| state.ponged(ping, Some(cx)) || state.is_closed());
            if over { Poll::Ready(()) } else { Poll::Pending }
        });
        if tokio::time::timeout(PONG, pong).await.is_ok() {
            last_used.set(now);
        } else {
            self.retire();
        }
        !self.is_closed()
    }
}

/// A PING that somebody waits for, until dropped.
struct Pinging<'c>(&'c Cell<bool>);

impl Drop for Pinging<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.with(State::retire);
    }
}

/// A request and its response. Dropped before the end of both it is reset.
#[derive(Debug)]
pub struct ClientStream {
    stream: Owned,
    /// The connection lives as long as its streams.
    connection: Rc<Inner>,
}

impl ClientStream {
    /// The code that the server has reset it with.
    pub fn reset_code(&self) -> Option<Code> {
        self.stream.reset_code()
    }
}

channel!(ClientStream);

impl Client for ClientStream {
    fn request(&mut self, head: &RequestHead, length: Length) -> Result<(), Broken> {
        self.stream.with(|state, key| state.send_request(key, head, length))
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Broken>> {
        let head = self.stream.with(|state, key| state.take_response(key, cx));
        if let Poll::Ready(Ok(head)) = &head
            && head.status >= 200
        {
            self.stream.has_head();
        }
        head
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.connection.last_used.set(crate::clock::now_ms());
    }
}
