//! The end that asks for tunnels.

use std::future::poll_fn;
use std::net::SocketAddr;

use http::Method;
use tokio_util::sync::CancellationToken;

use super::{Outward, limits};
use crate::http::channel::{Broken, Client as _};
use crate::http::h2::{self, Tunnel};
use crate::http::message::{Fields, Length, RequestHead, Version};
use crate::stream::Stream;

/// Why there is no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The connection is over, or takes no more.
    Connection,
    /// The other end answered so.
    Status(u16),
}

/// A connection that carries tunnels. Clones are the same connection; it ends when all are dropped and its tunnels ended.
#[derive(Clone, Debug)]
pub struct Connection(h2::Connection);

impl Connection {
    /// Starts on a stream. `lost` ends it with all its tunnels.
    pub fn start(stream: Stream, lost: Option<CancellationToken>) -> Self {
        let (connection, driver) = h2::connect(stream, limits(), true);
        tokio::task::spawn_local(async move {
            let ended = match lost {
                None => driver.await,
                Some(lost) => tokio::select! {
                    ended = driver => ended,
                    () = lost.cancelled() => Ok(()),
                },
            };
            if let Err(e) = ended {
                tracing::debug!(error = %e, "a connection of tunnels broke");
            }
        });
        Self(connection)
    }

    /// Whether it takes no tunnel any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Tunnels.
    pub fn active(&self) -> usize {
        self.0.active()
    }

    /// Whether another tunnel fits.
    pub fn has_room(&self) -> bool {
        self.0.has_room()
    }

    /// When a tunnel was last begun or ended, in milliseconds of [`crate::clock`].
    pub fn last_used(&self) -> u64 {
        self.0.last_used()
    }

    /// Whether the other end lives; asked by PING after a silence.
    pub async fn is_alive(&self, now: u64) -> bool {
        self.0.is_alive(now).await
    }

    /// Asks for a tunnel to `to`, and waits until it is open.
    ///
    /// # Errors
    /// If it is not: because the connection does not take it, or the other end does not want it.
    pub async fn open(&self, to: SocketAddr, fields: &Fields) -> Result<Outward, Refused> {
        let mut head = RequestHead::new(Method::CONNECT, Version::Http2);
        head.fields = fields.clone();
        head.set_authority(to.to_string().as_bytes());
        let over = |_: Broken| Refused::Connection;
        let mut stream = self.0.open().map_err(over)?;
        stream.request(&head, Length::Unknown).map_err(over)?;
        loop {
            let head = poll_fn(|cx| stream.poll_response(cx)).await.map_err(over)?;
            match head.status {
                100..200 => {}
                200..300 => return Ok(Tunnel::new(stream)),
                status => return Err(Refused::Status(status)),
            }
        }
    }
}
