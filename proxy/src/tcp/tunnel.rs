//! A stream of HTTP/2 as a connection: CONNECT, both ends.
//!
//! In: a connection whose peers agreed on HTTP/2 (HBONE, or tunnels between hawser-proxies). Out: [`Tunnel`], bytes both
//! ways whose end is the stream's end. Invariant: what a stream has not consumed counts against its window, so a slow
//! reader holds up its own sender and nobody else, within the window of the connection.

mod client;
mod server;

pub use client::{Connection, Refused};
pub use server::{Asked, serve};

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::{Plain, Stream};

/// The most tunnels of a connection.
pub const STREAMS: u32 = 100;
/// What a peer may send in a tunnel before it is read.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same of all tunnels of a connection.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// What waits to be sent in a tunnel.
const SEND_BUFFER: usize = 256 * 1024;
const FRAME: u32 = 64 * 1024;
const LONGEST_HEAD: u32 = 16 * 1024;
/// What a pipe in memory holds.
const PIPE: usize = 64 * 1024;

/// Bytes both ways.
pub struct Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Came and was not read.
    kept: Bytes,
    finished: bool,
    /// Counts it among its connection's while it lives.
    _counted: Rc<dyn std::any::Any>,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("finished", &self.finished).finish_non_exhaustive()
    }
}

impl Tunnel {
    fn new(send: SendStream<Bytes>, receive: RecvStream, counted: Rc<dyn std::any::Any>) -> Self {
        Self { send, receive, kept: Bytes::new(), finished: false, _counted: counted }
    }

    /// As the stream that codecs of HTTP read and write.
    pub fn into_stream(mut self) -> Stream {
        let (mut ours, theirs) = tokio::io::duplex(PIPE);
        tokio::task::spawn_local(async move {
            // Whoever holds the other end knows how long it may be silent.
            let _ = super::carry(&mut self, &mut ours, Duration::from_secs(24 * 3600), |_| {}).await;
        });
        Stream::plain(Plain::memory(theirs))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.kept.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(bytes)) => this.kept = bytes,
                // Said to a peer that has gone: it has said all it wanted to.
                Some(Err(e)) if e.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(Ok(())),
                Some(Err(e)) => return Poll::Ready(Err(broken(e))),
            }
        }
        let n = this.kept.len().min(buf.remaining());
        buf.put_slice(&this.kept[..n]);
        this.kept.advance(n);
        let _ = this.receive.flow_control().release_capacity(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(buf.len().min(FRAME as usize));
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(e)) => return Poll::Ready(Err(broken(e))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let n = this.send.capacity().min(buf.len());
        this.send.send_data(Bytes::copy_from_slice(&buf[..n]), false).map_err(broken)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes for all its streams.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.finished, true) {
            this.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(e: h2::Error) -> io::Error {
    match e.is_io() {
        true => e.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
        false => io::Error::new(io::ErrorKind::ConnectionReset, e),
    }
}

#[cfg(test)]
mod tests;
