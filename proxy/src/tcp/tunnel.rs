//! A stream of HTTP/2 as a connection: CONNECT, both ends.
//!
//! In: a connection whose peers agreed on HTTP/2 (HBONE, or tunnels between hawser-proxies). Out: [`Inward`] and
//! [`Outward`], bytes both ways whose end is the stream's end. Invariant: what a stream has not consumed counts against its
//! window, so a slow reader holds up its own sender and nobody else, within the window of the connection.

mod client;
mod server;

pub use client::{Connection, Refused};
pub use server::{Asked, serve};

use std::time::Duration;

use crate::http::h2::{ClientStream, Limits, ServerStream, Tunnel};
use crate::stream::{Plain, Stream};

/// A tunnel that somebody opened to us.
pub type Inward = Tunnel<ServerStream>;
/// A tunnel that we opened.
pub type Outward = Tunnel<ClientStream>;

/// What a pipe in memory holds.
const PIPE: usize = 64 * 1024;

/// Bounds of a connection that carries tunnels.
fn limits() -> Limits {
    Limits {
        streams: 100,
        head: 16 * 1024,
        fields: 50,
        stream_window: 1024 * 1024,
        connection_window: 8 * 1024 * 1024,
        ..Limits::default()
    }
}

/// A tunnel as the stream that codecs of HTTP read and write.
pub fn into_stream(mut tunnel: impl crate::stream::end::End + 'static) -> Stream {
    let (mut ours, theirs) = tokio::io::duplex(PIPE);
    tokio::task::spawn_local(async move {
        // Whoever holds the other end knows how long it may be silent.
        let _ = super::carry(&mut tunnel, &mut ours, Duration::from_secs(24 * 3600), |_| {}).await;
    });
    Stream::plain(Plain::memory(theirs))
}

#[cfg(test)]
mod tests;
