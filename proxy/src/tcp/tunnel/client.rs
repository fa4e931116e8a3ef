//! The end that asks for tunnels.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use http::{HeaderMap, Method, Request};
use tokio_util::sync::CancellationToken;

use super::{CONNECTION_WINDOW, FRAME, LONGEST_HEAD, SEND_BUFFER, STREAM_WINDOW, STREAMS, Tunnel};
use crate::stream::Stream;

/// After so many milliseconds without a tunnel, a PING shows whether the other end still lives.
const TRUSTED: u64 = 5_000;
const PONG: Duration = Duration::from_secs(1);

/// Why there is no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The connection is over, or takes no more.
    Connection,
    /// The other end answered so.
    Status(u16),
}

/// A connection that carries tunnels.
pub struct Connection {
    sender: SendRequest<Bytes>,
    ping: RefCell<Option<PingPong>>,
    closed: Rc<Cell<bool>>,
    /// One reference more than there are tunnels.
    active: Rc<()>,
    last_used: Cell<u64>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("active", &self.active())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Starts on a stream. `keep` lives as long as it does; `lost` ends it with all its tunnels.
    ///
    /// # Errors
    /// If the stream breaks.
    pub async fn start(
        stream: Stream,
        lost: Option<CancellationToken>,
        keep: Rc<dyn std::any::Any>,
    ) -> io::Result<Self> {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAMS as usize)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(LONGEST_HEAD)
            .max_send_buffer_size(SEND_BUFFER);
        let (sender, mut connection) = builder.handshake::<_, Bytes>(stream).await.map_err(super::broken)?;
        let ping = connection.ping_pong();
        let closed = Rc::new(Cell::new(false));
        let over = closed.clone();
        tokio::task::spawn_local(async move {
            let _keep = keep;
            match lost {
                Some(lost) => {
                    tokio::select! {
                        _ = connection => {}
                        () = lost.cancelled() => {}
                    }
                }
                None => drop(connection.await),
            }
            over.set(true);
        });
        Ok(Self {
            sender,
            ping: RefCell::new(ping),
            closed,
            active: Rc::new(()),
            last_used: Cell::new(crate::clock::now_ms()),
        })
    }

    /// Whether it takes no tunnel any more.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Tunnels.
    pub fn active(&self) -> usize {
        Rc::strong_count(&self.active) - 1
    }

    /// Whether another tunnel fits.
    pub fn has_room(&self) -> bool {
        !self.is_closed() && self.active() < self.sender.current_max_send_streams().min(STREAMS as usize)
    }

    /// When it was last asked for a tunnel, in milliseconds of [`crate::clock`].
    pub fn last_used(&self) -> u64 {
        self.last_used.get()
    }

    /// Whether the other end lives; asked by PING after a silence.
    pub async fn is_alive(&self, now: u64) -> bool {
        if self.active() > 0 || now.saturating_sub(self.last_used.get()) < TRUSTED {
            return !self.is_closed();
        }
        // Whoever is second while a PING is under way relies on the first.
        let Some(mut ping) = self.ping.borrow_mut().take() else { return !self.is_closed() };
        let pong = tokio::time::timeout(PONG, ping.ping(Ping::opaque())).await;
        self.ping.replace(Some(ping));
        if matches!(pong, Ok(Ok(_))) {
            self.last_used.set(now);
        } else {
            self.closed.set(true);
        }
        !self.is_closed()
    }

    /// Asks for a tunnel to `to`, and waits until it is open.
    ///
    /// # Errors
    /// If it is not: because the connection does not take it, or the other end does not want it.
    pub async fn open(&self, to: SocketAddr, headers: HeaderMap) -> Result<Tunnel, Refused> {
        let counted = self.active.clone();
        self.last_used.set(crate::clock::now_ms());
        let uri = http::uri::Uri::try_from(to.to_string()).map_err(|_| Refused::Connection)?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let gone = |_| {
            self.closed.set(true);
            Refused::Connection
        };
        let mut sender = self.sender.clone().ready().await.map_err(gone)?;
        // What breaks after this may be the stream alone.
        let (response, send) = sender.send_request(request, false).map_err(|_| Refused::Connection)?;
        let response = response.await.map_err(|e| {
            if e.is_io() || e.is_go_away() {
                self.closed.set(true);
            }
            Refused::Connection
        })?;
        match response.status().as_u16() {
            200..=299 => Ok(Tunnel::new(send, response.into_body(), counted)),
            status => Err(Refused::Status(status)),
        }
    }
}
